package config

import (
	"testing"

	"fairlead/userspace/control"
)

func TestIndependentRequests(t *testing.T) {
	for _, row := range []struct {
		name string
		a, b []string
		want bool
	}{
		{"weights of two backends", []string{"set-weight p a:1 1"}, []string{"set-weight p b:1 1"}, true},
		{"weights of one", []string{"set-weight p a:1 1"}, []string{"set-weight p a:1 2"}, false},
		{"weights of one, as URL", []string{"set-weight p a:1 1"}, []string{"drain p http://a:1/x"}, false},
		{"one request", []string{"set-weight p a:1 1", "set-weight p a:1 2", "add-backend p b:1"}, nil, true},
		{"two pools", []string{"add-backend p b:1"}, []string{"remove-backend q b:1"}, true},
		{"one pool", []string{"add-backend p b:1"}, []string{"remove-backend p a:1"}, false},
		{"one pool and a weight", []string{"set-weight p b:1 2"}, []string{"remove-backend p a:1"}, false},
		{"a weight after that", []string{"remove-backend p a:1"}, []string{"set-weight p b:1 2"}, false},
		{"a set", []string{"set-backends p a:1"}, []string{"set-weight p b:1 2"}, false},
		{"a pool", []string{"put-pool p {}"}, []string{"set-weight q b:1 2"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := Independent([][]control.Edit{edits(row.a...), edits(row.b...)}); got != row.want {
				t.Errorf("%t", got)
			}
		})
	}
}
