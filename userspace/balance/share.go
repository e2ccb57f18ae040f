package balance

import "fairlead/userspace/model"

// Whole is the share of a backend that has all of its weight: shares count in
// twentieths, so that tables of weights by shares stay small.
const Whole = 20

// Weights returns what backends weigh with these shares of their weights; nil
// are whole ones. Only what they are to each other matters: where some share is
// not whole, all weights are Whole times as large.
func Weights(backends []model.Backend, shares []int) []int {
	unit := 1
	for _, share := range shares {
		if share != Whole {
			unit = Whole
		}
	}
	weights := make([]int, len(backends))
	for i, b := range backends {
		weights[i] = b.Weight * unit
		if unit == Whole {
			weights[i] = b.Weight * shares[i]
		}
	}
	return weights
}
