package install

import (
	"os"
	"testing"

	"fairlead/testenv/leak"
	"fairlead/testenv/stage"
)

var programs stage.Programs

func TestMain(m *testing.M) { os.Exit(stage.Main(leak.Each(m), &programs)) }
