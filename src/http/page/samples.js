// A few products to begin with.

export const SAMPLES = [
  { productId: 1, productName: 'Trail Runner 40 backpack', manufacturer: 'Northfold', pricePerUnit: '129EUR', unitsAvailable: 42 },
  { productId: 2, productName: 'Kelvin pour-over kettle', manufacturer: 'Brasa', pricePerUnit: '89EUR', unitsAvailable: 17 },
  { productId: 3, productName: 'Meridian desk lamp', manufacturer: 'Lumen & Co', pricePerUnit: '74.50EUR', unitsAvailable: 120 },
  { productId: 4, productName: 'Quiet One keyboard', manufacturer: 'Tessel', pricePerUnit: '159EUR', unitsAvailable: 8 },
  { productId: 5, productName: 'Harbour wool blanket', manufacturer: 'Fjordline', pricePerUnit: '95EUR', unitsAvailable: 31 },
  { productId: 6, productName: 'Arc 2 bicycle light', manufacturer: 'Velora', pricePerUnit: '39.90EUR', unitsAvailable: 0 },
];
