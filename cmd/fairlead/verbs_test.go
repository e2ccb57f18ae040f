package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fairlead/cmd/internal/command"
)

// ask runs a verb against an agent, at the time of its answers.
func ask(t *testing.T, socket, args string) (code int, out, errOut string) {
	t.Helper()
	w := world{now: func() time.Time { return at(30).AsTime() }}
	return run(t, t.Context(), w, append(strings.Fields(args), "--lb", socket)...)
}

// TestWhatVerbsPrint has them print what an agent answers, for people and programs.
func TestWhatVerbsPrint(t *testing.T) {
	b, socket := lb(t)
	for name, args := range map[string]string{
		"pool-list": "pool list", "health": "health", "services": "services", "flows": "flows", "history": "history", "export": "export",
		"weight": "backend weight --pool web --backend 10.0.0.1:80 --weight 5", "kill": "kill --client 198.51.100.7",
	} {
		for _, format := range []string{"table", "json"} {
			t.Run(name+" "+format, func(t *testing.T) {
				code, out, errOut := ask(t, socket, args+" -o "+format)
				if code != 0 || errOut != "" {
					t.Errorf("status %d, stderr %q", code, errOut)
				}
				golden(t, name+"."+map[string]string{"table": "txt", "json": "json"}[format], out)
			})
		}
	}
	t.Run("history with differences", func(t *testing.T) {
		_, out, _ := ask(t, socket, "history --diff")
		golden(t, "history-diff.txt", out)
	})
	for _, format := range []string{"table", "json"} {
		t.Run("watch "+format, func(t *testing.T) {
			b.watched = 0
			code, out, errOut := ask(t, socket, "watch -o "+format)
			if want := "fairlead: disk is full\n"; code != 1 || errOut != want {
				t.Errorf("status %d, stderr %q; want 1 and %q", code, errOut, want)
			}
			golden(t, "watch."+map[string]string{"table": "txt", "json": "json"}[format], out)
		})
	}
	b.said()
}

// A full writer takes nothing.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestWatchEndsWhereNothingCanBePrinted has it not take that for the agent's end.
func TestWatchEndsWhereNothingCanBePrinted(t *testing.T) {
	_, socket := lb(t)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	var errOut bytes.Buffer
	w := world{out: full{}, errOut: &errOut, now: time.Now}
	code := command.Run(ctx, newApp(w), []string{"fairlead", "watch", "--lb", socket})
	if want := "fairlead: print: no space left on device\n"; code != 1 || errOut.String() != want {
		t.Errorf("status %d, stderr %q; want 1 and %q", code, errOut.String(), want)
	}
}

// TestWhatVerbsAsk has verbs that change something ask for what their flags say.
func TestWhatVerbsAsk(t *testing.T) {
	b, socket := lb(t)
	file := configFile(t, "services: []\n")
	for _, row := range []struct{ args, want, out string }{
		{"pool add --pool p --backend 10.0.0.1:80 --backend http://10.0.0.2/x --force --expect 7",
			`AddPool {"pool":"p","backends":["10.0.0.1:80","http://10.0.0.2/x"],"spec":"","pattern":"","service":"","expect":"7","force":true}`, "pool p added"},
		{"pool add --pattern /My_Images/{x} --service site --ip 10.0.0.1 --port 8080 --url_path static",
			`AddPool {"pool":"my-images-x","backends":["http://10.0.0.1:8080/static"],"spec":"","pattern":"/My_Images/{x}","service":"site","expect":"0","force":false}`,
			"pool my-images-x added, for /My_Images/{x}"},
		{"pool add --pool p --file " + file, `AddPool {"pool":"p","backends":[],"spec":"services: []\n","pattern":"","service":"","expect":"0","force":false}`, "pool p added"},
		{"pool remove --pool p", `RemovePool {"pool":"p","pattern":"","service":"","expect":"0"}`, "pool p removed"},
		{"pool remove --pattern GET_/images/ --expect 2", `RemovePool {"pool":"images","pattern":"GET /images/","service":"","expect":"2"}`,
			"pool images removed, and the route of GET /images/"},
		{"backend add --pool p --backend b:80", `AddBackend {"pool":"p","backend":"b:80","spec":"","expect":"0","force":false}`, "backend b:80 added to pool p"},
		{"backend add --pool p --ip 2001:db8::1 --port 80 --weight 0 --zone east --force --expect 9",
			`AddBackend {"pool":"p","backend":"[2001:db8::1]:80","weight":0,"spec":"zone: east\n","expect":"9","force":true}`, "backend [2001:db8::1]:80 added to pool p"},
		{"backend remove --pattern / --service shop --backend b:80", `RemoveBackend {"pool":"goods","backend":"b:80","expect":"0"}`, "backend b:80 removed from pool goods"},
		{"backend weight --pool p --backend b:80 --weight 1000", `SetWeight {"pool":"p","backend":"b:80","weight":1000,"expect":"0"}`, "backend b:80 of pool p has weight 1000"},
		{"backend drain --pool p --backend b:80 --expect 1", `DrainBackend {"pool":"p","backend":"b:80","expect":"1"}`, "backend b:80 of pool p drains"},
		{"backend undrain --pool p --backend b:80", `UndrainBackend {"pool":"p","backend":"b:80","expect":"0"}`, "backend b:80 of pool p drains no more"},
		{"apply --config " + file + " --expect 4 --force", `Apply {"configuration":"services: []\n","expect":"4","force":true}`, file + " is in force"},
		{"apply --reset", `Apply {"configuration":"","expect":"0","force":false}`, "the agent's file is in force"},
		{"rollback 3 --expect 7", `Rollback {"revision":"3","expect":"7"}`, "the configuration of revision 3 is in force"},
		{"rollback --expect 7 3", `Rollback {"revision":"3","expect":"7"}`, "the configuration of revision 3 is in force"},
	} {
		args := strings.Fields(row.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "GET_", "GET ")
		}
		code, out, errOut := run(t, t.Context(), world{}, append(args, "--lb", socket)...)
		if got := b.said(); got != row.want || code != 0 || errOut != "" || out != "revision 8: "+row.out+"\n" {
			t.Errorf("%s: status %d, stderr %q, stdout %q, asked\n%s\nwant\n%s", row.args, code, errOut, out, got, row.want)
		}
	}
	for args, want := range map[string]string{
		"health --pool web":       `GetHealth {"pool":"web"}`,
		"health --pattern /":      "",
		"services --service web":  `ListServices {"service":"web"}`,
		"history --before 9":      `ListHistory {"before":"9","limit":20}`,
		"flows --limit 3":         `StreamFlows {"filter":{"service":"","client":"","backend":"","protocol":"","path":""},"limit":3}`,
		"kill --all --path proxy": `KillFlows {"filter":{"service":"","client":"","backend":"","protocol":"","path":"proxy"},"all":true}`,
		"kill --client a --backend b --protocol tcp --service s": `KillFlows {"filter":{"service":"s","client":"a","backend":"b","protocol":"tcp","path":""},"all":false}`,
	} {
		code, _, errOut := ask(t, socket, args)
		if got := b.said(); got != want || (code != 0) != (want == "") {
			t.Errorf("%s: status %d, stderr %q, asked %s, want %s", args, code, errOut, got, want)
		}
	}
}

func TestVerbsThatCannotBe(t *testing.T) {
	b, socket := lb(t)
	empty := configFile(t, " \n")
	for _, row := range []struct{ args, want string }{
		{"pool add", "--pool is missing: name the pool"},
		{"pool add --pattern /", "--pool is missing: name the pool"},
		{"pool add --pool p", "--backend is missing: name the backend, such as --backend 10.0.0.1:8080, or --ip 10.0.0.1 --port 8080"},
		{"pool add --pool p --backend a --file b", "--backend, --ip and --file exclude each other: give one"},
		{"pool add --pool p --file /nonexistent/p.yaml", "--file: open /nonexistent/p.yaml: no such file or directory"},
		{"backend drain --backend a", "--pool is missing: name the pool, or the --pattern that leads to it; fairlead pool list shows those that there are"},
		{"backend drain --pool p --pattern / --backend a", "--pool and --pattern exclude each other: give one"},
		{"backend drain --pattern /x --backend a", "--pattern /x: no route has it; fairlead export shows those that there are"},
		{"backend drain --pattern / --backend a", "--pattern / leads to the pools main, goods: name one with --pool, or the --service"},
		{"backend drain --pattern /both/ --backend a", "--pattern /both/ leads to more than one pool: name one with --pool"},
		{"backend drain --pool p", "--backend is missing: name the backend, such as --backend 10.0.0.1:8080, or --ip 10.0.0.1 --port 8080"},
		{"backend drain --pool p --backend a --ip b", "--backend excludes --ip, --port and --url_path: give one or the others"},
		{"backend drain --pool p --port 80", "--ip is missing: name the backend's address, such as 10.0.0.1"},
		{"backend drain --pool p --ip 10.0.0.1", "--port is missing: name the backend's port, such as 8080"},
		{"backend drain --pool p --ip 10.0.0.1 --port http", `--port is "http": use a number from 1 to 65535`},
		{"backend weight --pool p --backend a", "--weight is missing: give a number from 0 to 1000"},
		{"backend weight --pool p --backend a --weight 1001", "--weight is 1001: use 0 to 1000"},
		{"backend weight --pool p --backend a --weight -1", `--weight is "-1": use a whole number, 0 or more`},
		{"backend drain --pool p --backend a --expect x", `--expect is "x": use a whole number, 0 or more`},
		{"apply", "--config is missing: name the configuration file, or take all changes back by --reset; try fairlead apply --help"},
		{"apply --reset --config x", "--reset and --config exclude each other: give one"},
		{"apply --config " + empty, "--config: " + empty + " is empty; --reset takes all changes back"},
		{"rollback", "N is missing: fairlead rollback takes N; try fairlead rollback --help"},
		{"rollback x", `"x" is not the number of a revision: fairlead history shows those that there are`},
		{"rollback 1 2", `unexpected argument "2": fairlead rollback takes only N and flags; try fairlead rollback --help`},
		{"flows --protocol icmp", `--protocol is "icmp": use tcp or udp`},
		{"flows --path xdp", `--path is "xdp": use kernel or proxy`},
	} {
		code, out, errOut := ask(t, socket, row.args)
		if want := "fairlead: " + row.want + "\n"; code != 2 || out != "" || errOut != want || b.said() != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want 2 and %q", row.args, code, out, errOut, want)
		}
	}
}

// TestWhatAnAgentRefuses has the exit status say why.
func TestWhatAnAgentRefuses(t *testing.T) {
	b, socket := lb(t)
	for _, row := range []struct {
		code connect.Code
		text string
		want int
		says string
	}{
		{connect.CodeAborted, "revision conflict: 8 is in force", 3, ""},
		{connect.CodeFailedPrecondition, "backend fails its check: connection refused", 3, ""},
		{connect.CodeAlreadyExists, "pool p: already exists", 3, ""},
		{connect.CodePermissionDenied, "uid 7 may not call this method", 3, "uid 7 may not call this method; admin: in the agent's configuration says who may"},
		{connect.CodeInvalidArgument, "change: a: is wrong\nchange: b: is wrong", 2, "change: a: is wrong\nfairlead: change: b: is wrong"},
		{connect.CodeNotFound, `pool "p": not found`, 2, ""},
		{connect.CodeResourceExhausted, "the message has 20000000 bytes", 2, ""},
		{connect.CodeUnavailable, "agent takes no changes now", 1, ""},
		{connect.CodeInternal, "disk is full", 1, ""},
	} {
		b.err = connect.NewError(row.code, errors.New(row.text))
		code, out, errOut := ask(t, socket, "backend add --pool p --backend b:80")
		want := "fairlead: " + row.text + "\n"
		if row.says != "" {
			want = "fairlead: " + row.says + "\n"
		}
		if code != row.want || out != "" || errOut != want {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want %d and %q", row.code, code, out, errOut, row.want, want)
		}
	}
}

// TestPoolsOfAPatternAreThere says how a pool gets another name than its pattern gives.
func TestPoolsOfAPatternAreThere(t *testing.T) {
	b, socket := lb(t)
	for text, says := range map[string]string{
		`pool "images": already exists`:                     `; the pattern gives that name: --pool gives another one`,
		`route "/images/" of service "web": already exists`: "",
	} {
		b.err = connect.NewError(connect.CodeAlreadyExists, errors.New(text))
		code, _, errOut := ask(t, socket, "pool add --pattern /images/ --ip 10.0.0.1 --port 80")
		if want := "fairlead: " + text + says + "\n"; code != 3 || errOut != want {
			t.Errorf("status %d, stderr %q; want 3 and %q", code, errOut, want)
		}
	}
}

func TestWhereAgentsAre(t *testing.T) {
	_, socket := lb(t)
	for _, row := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"by its run directory", []string{"--run-dir", filepath.Dir(socket)}, 0, ""},
		{"nobody there", []string{"--lb", "/nonexistent/a.sock"}, 1, "fairlead: reach agent at /nonexistent/a.sock: dial unix /nonexistent/a.sock: connect: no such file or directory; does it run? --lb names another one\n"},
		{"plain TCP", []string{"--lb", "10.0.0.1:9443"}, 2, "fairlead: --lb 10.0.0.1:9443: TCP is spoken with TLS only: give host:port with --lb-cert, --lb-key and --lb-ca, or the path of a socket\n"},
		{"plain HTTP", []string{"--lb", "http://10.0.0.1:9443"}, 2, "fairlead: --lb http://10.0.0.1:9443: TCP is spoken with TLS only: give host:port with --lb-cert, --lb-key and --lb-ca, or the path of a socket\n"},
		{"a URL", []string{"--lb", "https://10.0.0.1:9443"}, 2, "fairlead: --lb: reach agent at \"https://10.0.0.1:9443\": neither the path of a socket nor host:port\n"},
		{"no port", []string{"--lb", "10.0.0.1"}, 2, "fairlead: --lb: reach agent at \"10.0.0.1\": neither the path of a socket nor host:port\n"},
		{"no certificate", []string{"--lb", "10.0.0.1:9443", "--lb-cert", "/nonexistent", "--lb-key", "/nonexistent", "--lb-ca", "/nonexistent"}, 2,
			"fairlead: --lb: reach agent at 10.0.0.1:9443: read certificate: open /nonexistent: no such file or directory\n"},
	} {
		code, _, errOut := run(t, t.Context(), world{}, append([]string{"export"}, row.args...)...)
		if code != row.code || errOut != row.want {
			t.Errorf("%s: status %d, stderr %q; want %d and %q", row.name, code, errOut, row.code, row.want)
		}
	}
}

// TestWhyAnAgentIsNotReached has words for what is not an agent that is gone.
func TestWhyAnAgentIsNotReached(t *testing.T) {
	for _, row := range []struct {
		err  error
		want string
	}{
		{syscall.EACCES, "reach agent at t: permission denied; admin: users and groups in its configuration say who may"},
		{&tls.CertificateVerificationError{Err: errors.New("valid for agent, not localhost")}, "reach agent at t: valid for agent, not localhost; --lb must be a name of its certificate, and --lb-ca the authority of that"},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: unknown authority")}, "reach agent at t: it does not take the certificate of --lb-cert: tls: unknown authority; admin: client-ca in its configuration has the authorities"},
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}, "reach agent at t: it has ended the connection: it may not take the certificate of --lb-cert; admin: client-ca in its configuration has the authorities"},
	} {
		err := said("t", connect.NewError(connect.CodeUnavailable, fmt.Errorf("dial: %w", row.err)))
		if err == nil || err.Error() != row.want || !errors.Is(err, command.ErrRefused) {
			t.Errorf("%v, want %s", err, row.want)
		}
	}
}

// TestFlagsOfVerbs has wrong ones refused before anybody is asked, in the words of the
// command line.
func TestFlagsOfVerbs(t *testing.T) {
	b, socket := lb(t)
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"kill", 2, "nothing says which flows: use --service, --client, --backend, --protocol or --path, or --all"},
		{"history --limit 2000", 2, "--limit is 2000: use 1 to 1000, and --before for those before them"},
		{"history --limit 0", 2, "--limit is 0: use 1 to 1000, and --before for those before them"},
	} {
		code, out, errOut := ask(t, socket, row.args)
		if code != row.code || out != "" || errOut != "fairlead: "+row.want+"\n" || b.said() != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want %d, %q", row.args, code, out, errOut, row.code, row.want)
		}
	}
	b.err = connect.NewError(connect.CodeInvalidArgument, errors.New(`invalid request: filter.backend is "nope"`))
	code, out, errOut := ask(t, socket, "flows --backend nope")
	if want := "fairlead: invalid request: --backend is \"nope\"\n"; code != 2 || out != "" || errOut != want {
		t.Errorf("flows: status %d, stdout %q, stderr %q; want %q", code, out, errOut, want)
	}
	b.said()
	b.err = nil
	w := world{in: strings.NewReader("services: []\n")}
	code, out, errOut = run(t, t.Context(), w, "apply", "--config", "-", "--lb", socket)
	if code != 0 || !strings.Contains(out, "standard input is in force") || !strings.Contains(b.said(), `"configuration":"services: []\n"`) {
		t.Errorf("apply of standard input: status %d, stdout %q, stderr %q", code, out, errOut)
	}
	for verb, want := range map[string]string{"add": "(default: 1)", "weight": "(default: none)"} {
		if _, out, _ := run(t, t.Context(), world{}, "backend", verb, "--help"); !strings.Contains(out, want) || !strings.Contains(out, "(default: any)") {
			t.Errorf("help of backend %s has no %s:\n%s", verb, want, out)
		}
	}
}

func TestPlanOfARunningAgent(t *testing.T) {
	b, socket := lb(t)
	other, same := configFile(t, "services: []\n"), configFile(t, "# same\nservices: []\n")
	for _, row := range []struct {
		args string
		code int
		want string
	}{
		{"--config " + other, 0, "-a\n+b\n"},
		{"--exit-code --config " + other, 4, "-a\n+b\n"},
		{"--exit-code --config " + same, 0, "no changes in the agent's configuration\n"},
		{"-o json --config " + other, 0, "{\n  \"difference\": \"-a\\n+b\\n\"\n}\n"},
	} {
		code, out, errOut := ask(t, socket, "plan --live "+row.args)
		if code != row.code || out != row.want || errOut != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q; want %d, %q", row.args, code, out, errOut, row.code, row.want)
		}
		if asked := b.said(); !strings.Contains(asked, `"op":"apply"`) {
			t.Errorf("asked %s", asked)
		}
	}
}

// TestFaultsNameTheFile has an agent find faults in what was sent to it.
func TestFaultsNameTheFile(t *testing.T) {
	b, socket := lb(t)
	file := configFile(t, "services: 1\n")
	b.err = connect.NewError(connect.CodeInvalidArgument, errors.New("the configuration applied:1:11: services: is wrong\nchange: the configuration applied: is another"))
	want := "fairlead: " + file + ":1:11: services: is wrong\nfairlead: change: the configuration applied: is another\n"
	for _, verb := range []string{"apply --config ", "plan --live --config "} {
		if code, _, errOut := ask(t, socket, verb+file); code != 2 || errOut != want {
			t.Errorf("%s: status %d, stderr %q; want 2, %q", verb, code, errOut, want)
		}
	}
}

// TestCtrlC has the one who asks end it before there is an answer.
func TestCtrlC(t *testing.T) {
	for args, want := range map[string]string{
		"watch": "", "backend drain --pool p --backend b:80": "fairlead: interrupted before the agent has answered: fairlead history says whether a change was made\n",
	} {
		dir := t.TempDir()
		l, err := net.Listen("unix", filepath.Join(dir, "a.sock"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if c, err := l.Accept(); err == nil { // who never answers
				cancel()
				c.Close()
			}
		}()
		code, _, errOut := run(t, ctx, world{}, append(strings.Fields(args), "--lb", filepath.Join(dir, "a.sock"))...)
		if code != min(len(want), 1) || errOut != want {
			t.Errorf("%s: status %d, stderr %q, want %q", args, code, errOut, want)
		}
		l.Close()
	}
}
