package main

import (
	"errors"
	"io/fs"

	"fairlead/cmd/internal/command/status"
	"fairlead/userspace/balance"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// toldShares returns how much of its weight each backend of a service has by what
// an agent tells in dir, "" for the usual one, and how much one that is new has
// first.
func toldShares(dir string) (func(*model.Service) []int, error) {
	v, err := status.ReadView(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return func(s *model.Service) []int {
		for i := range v.Services {
			if x := &v.Services[i]; x.Listen == s.ListenText() && x.Protocol == s.Protocol {
				return sharesOf(s, x)
			}
		}
		return nil
	}, nil
}

func sharesOf(s *model.Service, told *view.Service) []int {
	if s.SlowStart == 0 && s.Balance.Method != model.ResponseTime {
		return nil
	}
	percent := map[string]int{}
	for _, b := range told.Backends {
		percent[b.Address] = b.Share
	}
	shares := make([]int, len(s.Backends))
	for i, b := range s.Backends {
		shares[i] = balance.Whole
		if p, known := percent[b.String()]; known {
			shares[i] = balance.Whole * p / 100
		} else if s.SlowStart > 0 {
			shares[i] = balance.Ramp(0, s.SlowStart)
		}
	}
	return shares
}
