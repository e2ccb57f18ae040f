package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"fairlead/loader"
	"fairlead/testenv/testvault"
	"fairlead/userspace/config"
	"fairlead/userspace/control"
	"fairlead/userspace/datapath"
	"fairlead/userspace/kernel"
	"fairlead/userspace/model"
	"fairlead/userspace/state"
	"fairlead/userspace/vault"
)

// foreseen returns a plan with one of everything.
func foreseen() *kernel.Plan {
	return &kernel.Plan{
		Attached:   true,
		Interfaces: []kernel.InterfaceChange{{Name: "eth2", Change: datapath.Added}, {Name: "eth1", Change: datapath.Removed}},
		Addresses: []kernel.AddressChange{
			{Address: netip.MustParseAddr("203.0.113.20"), Interface: "lo", Change: datapath.Added},
			{Address: netip.MustParseAddr("203.0.113.30"), Change: datapath.Removed},
		},
		Maps: []kernel.MapChange{{Name: "slots", From: 32, To: 64}, {Name: "flows6", To: 4096}},
		Changes: datapath.Changes{
			Services: []datapath.ServiceChange{
				{
					Name: "web", Listen: "203.0.113.10:80", Protocol: "tcp", Change: datapath.Changed,
					Fields: []datapath.FieldChange{{Field: "slots", From: "3", To: "4"}},
					Backends: []datapath.BackendChange{
						{
							Address: "10.2.1.2:8080", Change: datapath.Changed, Weight: 2,
							Fields: []datapath.FieldChange{{Field: "weight", From: "1", To: "2"}, {Field: "state", From: "up", To: "down"}},
						},
						{Address: "10.2.1.3:8080", Change: datapath.Removed, Live: 40},
						{Address: "10.2.1.4:8080", Change: datapath.Added, Weight: 1},
						{Address: "10.2.1.5:8080", Change: datapath.Changed, Live: 2, Leaves: 20, Fields: []datapath.FieldChange{{Field: "weight", From: "1", To: "0"}}},
					},
					Flows: datapath.FlowShare{Live: 120, Ended: 40}, Slots: datapath.SlotShare{Slots: 3, Moved: 1.25},
				},
				{
					Name: "dns", Listen: "203.0.113.20:53", Protocol: "udp", Change: datapath.Added,
					Backends: []datapath.BackendChange{{Address: "10.2.1.2:53", Change: datapath.Added, Weight: 1}},
				},
			},
			Settings: []datapath.FieldChange{{Field: "reply-limit", From: "1000", To: "7"}},
			Devices:  []datapath.DeviceChange{{Ifindex: 4, Name: "eth2", Change: datapath.Changed}, {Ifindex: 9, Change: datapath.Removed}},
			Flows:    datapath.FlowShare{Live: 200, Ended: 40}, Slots: datapath.SlotShare{Slots: 65537, Moved: 32770.254}, Writes: 17,
		},
	}
}

const foreseenText = `+ interface eth2
- interface eth1
+ address 203.0.113.20 on lo
- address 203.0.113.30
~ way out of XDP: eth2, index 4
- way out of XDP: an interface that is gone, index 9
~ reply-limit: 1000 -> 7
~ service web, tcp 203.0.113.10:80: of 120 live flows 40 end (33.3 %) and 0 move (0 %); of 3 slots 1.25 move (41.7 %)
    ~ slots: 3 -> 4
    ~ backend 10.2.1.2:8080: weight 1 -> 2, state up -> down
    - backend 10.2.1.3:8080, 40 live flows
    + backend 10.2.1.4:8080, weight 1
    ~ backend 10.2.1.5:8080: leaves within 20s, 2 live flows, reset then
+ service dns, udp 203.0.113.20:53
    + backend 10.2.1.2:53, weight 1
~ map slots: 32 -> 64 entries
+ map flows6: 4096 entries
in all: of 200 live flows 40 end (20 %) and 0 move (0 %); of 65537 slots 32770.25 move (50 %)
`

func TestPlan(t *testing.T) {
	fresh := foreseen()
	fresh.Attached, fresh.Interfaces, fresh.Addresses, fresh.Settings, fresh.Devices = false, nil, nil, nil, nil
	fresh.Services = fresh.Services[1:]
	for _, row := range []struct {
		name, file, args string
		plan             *kernel.Plan
		err              error
		code             int
		out, errOut      string
	}{
		{"nothing", goodConfig, "", &kernel.Plan{Attached: true}, nil, 0, "no changes in the kernel\n", ""},
		{"nothing, with a status for changes", goodConfig, "--exit-code", &kernel.Plan{Attached: true}, nil, 0, "no changes in the kernel\n", ""},
		{"changes", goodConfig, "", foreseen(), nil, 0, foreseenText, ""},
		{"changes have a status", goodConfig, "--exit-code", foreseen(), nil, 4, foreseenText, ""},
		{
			"all is new", goodConfig, "", fresh, nil, 0,
			"nothing is attached: all of it is new\n+ service dns, udp 203.0.113.20:53\n    + backend 10.2.1.2:53, weight 1\n", "",
		},
		{"no root", goodConfig, "", nil, loader.ErrPrivileges, 1, "", "fairlead: " + loader.ErrPrivileges.Error() + "\n"},
		{
			"no XDP", "xdp: off\nservices: []\n", "--exit-code", nil, nil, 0, "xdp is off: nothing of this configuration is in the kernel\n", "",
		},
		{
			"a fault", "xdp: maybe\nservices: []\n", "", nil, nil, 2, "",
			"fairlead: FILE:1:6: xdp: \"maybe\" is unknown: use auto, native, generic or off\n",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := configFile(t, row.file)
			w := world{plan: func(context.Context, string, *model.State, kernel.Told) (*kernel.Plan, error) {
				return row.plan, row.err
			}}
			code, out, errOut := run(t, t.Context(), w, append([]string{"plan", "--config", path}, strings.Fields(row.args)...)...)
			if want := strings.ReplaceAll(row.errOut, "FILE", path); code != row.code || out != row.out || errOut != want {
				t.Errorf("status %d, stderr %q, stdout\n%s\nwant %d, %q,\n%s", code, errOut, out, row.code, want, row.out)
			}
		})
	}
}

func TestPlanIsOfWhatItIsTold(t *testing.T) {
	var dir string
	var interfaces []string
	w := world{plan: func(_ context.Context, d string, s *model.State, _ kernel.Told) (*kernel.Plan, error) {
		dir, interfaces = d, s.Interfaces
		return nil, errors.New("seen")
	}}
	code, _, errOut := run(t, t.Context(), w, "plan", "--config", configFile(t, goodConfig), "--pin-dir", "/p", "-i", "a", "-i", "b")
	if code != 1 || errOut != "fairlead: seen\n" || dir != "/p" || strings.Join(interfaces, " ") != "a b" {
		t.Errorf("status %d, stderr %q, directory %q, interfaces %q", code, errOut, dir, interfaces)
	}
}

// edited writes a state in a store: edits on top of the file at path.
func edited(t *testing.T, path string, s state.Store, edits ...control.Edit) {
	t.Helper()
	tree, err := config.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	document, err := tree.Export()
	if err != nil {
		t.Fatal(err)
	}
	h, err := state.NewHistory(t.Context(), s, state.DefaultLimit)
	if err != nil {
		t.Fatal(err)
	}
	step := state.Step{Config: state.Config{Base: state.Digest(document), Edits: edits}, Document: document}
	if err := errors.Join(h.Append(t.Context(), []state.Step{step}), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// planOf returns a world that takes down the weight of the first backend.
func planOf(weight *int) world {
	return world{plan: func(_ context.Context, _ string, s *model.State, _ kernel.Told) (*kernel.Plan, error) {
		*weight = s.Services[0].Backends[0].Weight
		return &kernel.Plan{Attached: true}, nil
	}}
}

func TestPlanNamesWhatTheFileDoesNotDecide(t *testing.T) {
	server, weight := testvault.New(t), 5
	for _, row := range []struct {
		name, config, stateDir string
		open                   func(dir string) (state.Store, error)
	}{
		{"in a directory", goodConfig, t.TempDir(), func(dir string) (state.Store, error) {
			f, broken, err := state.OpenFile(dir)
			return f, errors.Join(broken, err)
		}},
		{"in a KV store", atVault(server) + goodConfig, "vault:secret/fairlead", func(string) (state.Store, error) {
			kv, err := vault.OpenKV(&model.Vault{Address: server.URL, TokenFile: server.TokenFile}, "secret/fairlead")
			if err != nil {
				return nil, err
			}
			v, _, err := state.OpenVault(t.Context(), kv, "secret/fairlead")
			return v, err
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			path, got := configFile(t, row.config), 0
			code, out, errOut := run(t, t.Context(), planOf(&got), "plan", "--config", path, "--state-dir", row.stateDir)
			if code != 0 || errOut != "" || out != "no changes in the kernel\n" || got != 1 {
				t.Errorf("without a state: status %d, stderr %q, weight %d, stdout %q", code, errOut, got, out)
			}
			s, err := row.open(row.stateDir)
			if err != nil {
				t.Fatal(err)
			}
			edited(t, path, s,
				control.Edit{Op: control.OpSetWeight, Service: "web", Backend: "10.2.1.2:8080", Weight: &weight},
				control.Edit{Op: control.OpDrain, Service: "web", Backend: "10.2.1.9:8080"})
			code, out, errOut = run(t, t.Context(), planOf(&got), "plan", "--config", path, "--state-dir", row.stateDir)
			want := "no changes in the kernel\nset by the API, whatever the file says: services.web.backends[10.2.1.2:8080].weight\n" +
				"left out, as it does not fit the file: services.web.backends[10.2.1.9:8080].weight (drained): backend \"10.2.1.9:8080\" of service \"web\": not found: it has 10.2.1.2:8080, 10.2.1.3:8080\n"
			if code != 0 || errOut != "" || out != want || got != weight {
				t.Errorf("status %d, stderr %q, weight %d, stdout\n%swant\n%s", code, errOut, got, out, want)
			}
			code, out, _ = run(t, t.Context(), planOf(&got), "plan", "--config", path, "--state-dir", row.stateDir, "-o", "json")
			if code != 0 || !strings.Contains(out, `"edited": [`) || !strings.Contains(out, `"revision": 1`) {
				t.Errorf("status %d, %s", code, out)
			}
		})
	}
}

// TestPlanWithoutXDP still says what decides about the configuration.
func TestPlanWithoutXDP(t *testing.T) {
	path, dir, weight := configFile(t, "xdp: off\n"+strings.TrimPrefix(goodConfig, "interfaces: [eth0]\n")), t.TempDir(), 5
	f, broken, err := state.OpenFile(dir)
	if err := errors.Join(broken, err); err != nil {
		t.Fatal(err)
	}
	edited(t, path, f, control.Edit{Op: control.OpSetWeight, Service: "web", Backend: "10.2.1.2:8080", Weight: &weight})
	code, out, errOut := run(t, t.Context(), world{}, "plan", "--config", path, "--state-dir", dir)
	want := "xdp is off: nothing of this configuration is in the kernel\nset by the API, whatever the file says: services.web.backends[10.2.1.2:8080].weight\n"
	if code != 0 || out != want || errOut != "" {
		t.Errorf("status %d, stdout %q, stderr %q; want %q", code, out, errOut, want)
	}
	code, out, _ = run(t, t.Context(), world{}, "plan", "--config", path, "--state-dir", dir, "-o", "json")
	if want := "{\n  \"xdp\": \"off\",\n  \"revision\": 1,\n  \"edited\": [\n    \"services.web.backends[10.2.1.2:8080].weight\"\n  ]\n}\n"; code != 0 || out != want {
		t.Errorf("status %d, %q; want %q", code, out, want)
	}
}

// atVault returns the part of a configuration that names a server.
func atVault(s *testvault.Server) string {
	return fmt.Sprintf("vault: {address: %q, token-file: %s}\n", s.URL, s.TokenFile)
}

func TestPlanSaysThatAVaultCannotBeRead(t *testing.T) {
	silent, err := net.Listen("tcp4", "127.0.0.1:0") // nobody accepts, and soon nobody listens
	if err != nil {
		t.Fatal(err)
	}
	gone := silent.Addr().String()
	silent.Close()
	server := testvault.New(t)
	for _, row := range []struct {
		name, vault string
		fate        testvault.Fate
		code        int
		want        string
	}{
		{"not reached", fmt.Sprintf("vault: {address: 'http://%s', token-file: %s}\n", gone, server.TokenFile), testvault.Answered, 0, "connect: connection refused (--state-dir)"},
		{"sealed", atVault(server), testvault.Sealed, 0, "read secret/fairlead/head of vault: the server is sealed, or not ready (--state-dir)"},
		{"not allowed", atVault(server), testvault.Denied, 0, "no policy lets it read secret/data/fairlead/head (--state-dir)"},
		{"not named", "", testvault.Answered, 2, "--state-dir vault:secret/fairlead needs a server: write vault: {address: ...} in a configuration file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server.Fail(func(_, _ string) testvault.Fate { return row.fate })
			got := 0
			code, _, errOut := run(t, t.Context(), planOf(&got), "plan", "--config", configFile(t, row.vault+goodConfig), "--state-dir", "vault:secret/fairlead")
			start := "fairlead: "
			if row.code == 0 {
				start += "warning: changes of the agent are not known, the plan is of the file alone (--live asks the agent): look at state: read secret/fairlead/head of vault: "
			}
			if code != row.code || !strings.HasPrefix(errOut, start) || !strings.HasSuffix(errOut, row.want+"\n") || strings.Count(errOut, "\n") != 1 {
				t.Errorf("status %d, stderr %q, want %d, %q", code, errOut, row.code, start+"... "+row.want)
			}
			if planned := got == 1; planned != (row.code == 0) {
				t.Errorf("weight %d is planned", got)
			}
		})
	}
}
