package balance

import (
	"testing"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }
