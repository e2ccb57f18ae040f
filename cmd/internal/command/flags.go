package command

import (
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fairlead/loader"
	"fairlead/userspace/model"
	"fairlead/userspace/view"
)

// Every flag has an environment variable, which the flag wins over:
// FAIRLEAD_PIN_DIR for --pin-dir.
func env(name string) []string {
	return []string{"FAIRLEAD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

// String returns a flag with a text value. usage names the value in `X`.
func String(name, value, usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

// Bool returns a flag without a value.
func Bool(name, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Usage: usage, EnvVars: env(name)}
}

// Uint returns a flag with a number.
func Uint(name string, value uint, usage string) *cli.UintFlag {
	return &cli.UintFlag{Name: name, Value: value, Usage: usage, EnvVars: env(name)}
}

// Choice returns a flag whose value is one of words.
func Choice(name, value, usage string, words ...string) *ChoiceFlag {
	f := &ChoiceFlag{String(name, value, usage), words}
	f.Action = func(_ *cli.Context, s string) error {
		if !slices.Contains(words, s) {
			return Usagef("--%s is %q: use %s", name, s, oneOf(words))
		}
		return nil
	}
	return f
}

// ConfigFlag names the configuration file; see [State].
func ConfigFlag() cli.Flag { return String("config", "", "read the configuration from `FILE`") }

// PinDirFlag says where the kernel part is pinned.
func PinDirFlag() cli.Flag {
	return String("pin-dir", loader.DefaultDir, "maps, program and links are pinned in `DIR` of a BPF file system")
}

// PinDir returns the value of [PinDirFlag], or what the configuration says where
// neither the flag nor its variable is set.
func PinDir(c *cli.Context, conf *model.Agent) string {
	if conf.PinDir != "" && !c.IsSet("pin-dir") {
		return conf.PinDir
	}
	return c.String("pin-dir")
}

// RunDirFlag says where the agent publishes its view; "" means the default,
// view.DefaultDir.
func RunDirFlag() cli.Flag {
	f := String("run-dir", "", "the agent's view is in `DIR`")
	f.DefaultText = view.SystemDir + ", or $XDG_RUNTIME_DIR/fairlead when not root"
	return f
}

// InterfaceFlag names interfaces; see [Interfaces].
func InterfaceFlag(usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: "interface", Aliases: []string{"i"}, Usage: usage, EnvVars: env("interface")}
}

// Interfaces returns the values of [InterfaceFlag]. Several may stand in one
// value, as they must in the environment, with blanks between.
func Interfaces(c *cli.Context) (names []string) {
	for _, v := range c.StringSlice("interface") {
		names = append(names, strings.Fields(v)...)
	}
	return names
}

// ModeFlag says how XDP attaches; see [Mode].
func ModeFlag() cli.Flag {
	f := Choice("mode", "", "attach XDP in `MODE`: auto, native or generic",
		string(model.XDPAuto), string(model.XDPNative), string(model.XDPGeneric))
	f.DefaultText = "what the configuration says"
	return f
}

// Mode returns the value of [ModeFlag], "" if the configuration decides.
func Mode(c *cli.Context) model.XDPMode { return model.XDPMode(c.String("mode")) }

// GraceFlag says how long known flows may go on; see [Grace].
func GraceFlag(usage string) cli.Flag {
	return &cli.DurationFlag{
		Name: "grace", Value: 10 * time.Second, Usage: usage, EnvVars: env("grace"),
		Action: func(_ *cli.Context, d time.Duration) error {
			if d < 0 {
				return Usagef("--grace is %s: use a time of 0s or more", d)
			}
			return nil
		},
	}
}
