// Numbers and times as the page writes them.

const counts = new Intl.NumberFormat('en-US');

export function agoText(ms) {
  if (ms < 1000) return 'just now';
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ago`;
  return `${Math.floor(minutes / 60)} h ago`;
}

export function rateText(perSecond) {
  return perSecond > 0 && perSecond < 99.95 ? perSecond.toFixed(1) : countText(Math.round(perSecond));
}

export function countText(count) {
  return counts.format(count);
}

// "500EUR" as its amount and its currency, so that they can be told apart; another text is all amount.
export function priceParts(price) {
  const match = /^(-?[\d.,]+)(\s?)(\p{L}{1,3}|\p{Sc})$/u.exec(price);
  return match ? { amount: match[1], gap: match[2], currency: match[3] } : { amount: price, gap: '', currency: '' };
}
