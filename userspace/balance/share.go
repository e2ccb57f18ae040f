package balance

import (
	"math"
	"time"

	"fairlead/userspace/model"
)

// Whole is the share of a backend that has all of its weight: shares count in
// twentieths, so that tables of weights by shares stay small.
const Whole = 20

// least is the share that everybody has who may have flows at all.
const least = Whole / 10

// Ramp returns the share of a backend that has been there for some time and is
// to have all of its weight after another.
func Ramp(age, full time.Duration) int {
	if age >= full {
		return Whole
	}
	return least + int(int64(Whole-least)*int64(max(0, age))/int64(full))
}

// Quickness returns the shares of backends that answer in these times: a whole
// one for the quickest, half of it for who takes twice as long, and a tenth for
// all who take ten times as long or longer. A time of 0 is not known, which is
// no reason for less.
func Quickness(times []time.Duration) []int {
	best := time.Duration(math.MaxInt64)
	for _, t := range times {
		if t > 0 {
			best = min(best, t)
		}
	}
	shares := make([]int, len(times))
	for i, t := range times {
		shares[i] = Whole
		if t > 0 {
			shares[i] = max(least, int(math.Round(Whole*float64(best)/float64(t))))
		}
	}
	return shares
}

// Even returns shares, from a tenth to 1, that even out loads more than these do:
// who has more than the mean gets less. A backend whose load is negative has not
// said it, and gets a whole share. Called again and again, as loads follow, it
// comes to shares with which all loads are the same: these are as the capacities.
func Even(shares, loads []float64) []float64 {
	const idle, step, floor = 0.01, 4, float64(least) / Whole
	mean, known := 0.0, 0.0
	for _, l := range loads {
		if l >= 0 {
			mean, known = mean+max(idle, l), known+1
		}
	}
	mean /= max(1, known)
	even, top := make([]float64, len(loads)), 0.0
	for i, l := range loads {
		if l >= 0 {
			even[i] = shares[i] * math.Sqrt(min(step, max(1.0/step, mean/max(idle, l)))) // half of the way: loads lag behind
			top = max(top, even[i])
		}
	}
	for i, l := range loads {
		if l < 0 {
			even[i] = 1
		} else {
			even[i] = max(floor, even[i]/top)
		}
	}
	return even
}

// Product returns the share of a share.
func Product(a, b int) int { return max(1, (a*b+Whole/2)/Whole) }

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
