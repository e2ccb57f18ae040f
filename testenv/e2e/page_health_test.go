package e2e

import (
	"fmt"
	"strings"
	"testing"

	"fairlead/testenv/stage"
)

// countedBy returns how many backends are how, as the page has it.
func countedBy(how map[string]int) string {
	var all []string
	for _, status := range []string{"healthy", "unhealthy", "draining", "unknown"} {
		if how[status] > 0 {
			all = append(all, fmt.Sprint(how[status], " ", status))
		}
	}
	return strings.Join(all, ", ")
}

// pooled returns how full the pools behind each service are, as the page has it where
// there are several.
func pooled(t *testing.T, s *stage.Stage) map[string]string {
	t.Helper()
	var pools struct {
		Pools []struct {
			Name, Status string
			Services     []string
		}
	}
	apiOf(t, s, "ListPools", &pools)
	words := map[string][]string{}
	for _, p := range pools.Pools {
		for _, of := range p.Services {
			words[of] = append(words[of], p.Name+" "+p.Status)
		}
	}
	all := map[string]string{}
	for of, w := range words {
		all[of] = strings.Join(w, ", ")
	}
	return all
}
