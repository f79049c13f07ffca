// A few products to begin with.

export const SAMPLES = [
  ['Trail Runner 40 backpack', 'Northfold', '129EUR', 42],
  ['Kelvin pour-over kettle', 'Brasa', '89EUR', 17],
  ['Meridian desk lamp', 'Lumen & Co', '74.50EUR', 120],
  ['Quiet One keyboard', 'Tessel', '159EUR', 8],
  ['Harbour wool blanket', 'Fjordline', '95EUR', 31],
  ['Arc 2 bicycle light', 'Velora', '39.90EUR', 0],
].map(([productName, manufacturer, pricePerUnit, unitsAvailable], i) => ({
  productId: i + 1,
  productName,
  manufacturer,
  pricePerUnit,
  unitsAvailable,
}));
