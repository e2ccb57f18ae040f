package datapath

import (
	"testing"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) {
	_, _ = clock() // which stays; without root there is none
	leak.Each(m).Run()
}
