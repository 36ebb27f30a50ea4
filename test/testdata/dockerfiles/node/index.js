const isNumber = require("is-number");
const word = process.argv[2];
console.log(word, isNumber(word) ? "is a number" : "is no number");
