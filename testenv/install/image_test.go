package install

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"fairlead/testenv"
	"fairlead/testenv/nameserver"
	"fairlead/testenv/stage"
)

const (
	deploy     = "../../deploy"
	dockerfile = deploy + "/Dockerfile"
)

// A composition is docker-compose.yaml, as far as it is used.
type composition struct {
	Services map[string]struct {
		Image      string   `yaml:"image"`
		Entrypoint []string `yaml:"entrypoint"`
		Command    []string `yaml:"command"`
		Volumes    []string `yaml:"volumes"`
		Ports      []string `yaml:"ports"`
		DependsOn  []string `yaml:"depends_on"`
	} `yaml:"services"`
}

func readComposition(t *testing.T) (c composition) {
	t.Helper()
	f, err := os.Open(deploy + "/docker-compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// An instruction is one of the Dockerfile.
type instruction struct {
	word, rest string
}

func readDockerfile(t *testing.T) (all []instruction) {
	t.Helper()
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		all = append(all, instruction{word, strings.TrimSpace(rest)})
	}
	return all
}

// last returns what the last instruction of a kind says: that of the image itself.
func last(t *testing.T, all []instruction, word string) string {
	t.Helper()
	for _, i := range slices.Backward(all) {
		if i.word == word {
			return i.rest
		}
	}
	t.Fatalf("%s has no %s", dockerfile, word)
	return ""
}

// list returns what last does, as the list that it is.
func list(t *testing.T, all []instruction, word string) (words []string) {
	t.Helper()
	if err := json.Unmarshal([]byte(last(t, all, word)), &words); err != nil {
		t.Fatalf("%s is no list, so a shell would be needed: %v", word, err)
	}
	return words
}

// makeImage makes what is in the image.
func makeImage(t *testing.T) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "image")
	cmd := exec.Command("../../scripts/image-root.sh", root)
	cmd.Env = append(os.Environ(), "PROGRAMS="+filepath.Dir(programs.Fairlead))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

func TestDockerfile(t *testing.T) {
	testenv.RequireRoot(t) // who has built the programs
	all, root := readDockerfile(t), makeImage(t)
	stages := map[string]bool{"scratch": true}
	for _, i := range all {
		switch i.word {
		case "FROM":
			if base, name, ok := strings.Cut(i.rest, " AS "); ok {
				stages[name] = true
				checkGo(t, base)
			} else if !stages[base] {
				t.Errorf("FROM %s: no version is named", base)
			}
		case "COPY":
			if from, ok := strings.CutPrefix(strings.Fields(i.rest)[0], "--from="); ok && !stages[from] {
				t.Errorf("COPY %s: there is no such stage", i.rest)
			}
		case "RUN":
			if script := strings.Fields(i.rest)[0]; strings.Contains(script, "/") {
				if _, err := os.Stat("../../" + script); err != nil {
					t.Error(err)
				}
			}
		case "WORKDIR", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD":
		default:
			t.Errorf("%s %s: nothing here knows what that is", i.word, i.rest)
		}
	}
	if i := slices.Index(all, instruction{"RUN", "scripts/image-root.sh /image"}); i < 0 {
		t.Error("the image is not made by scripts/image-root.sh, which these tests run")
	}
	for _, program := range []string{list(t, all, "ENTRYPOINT")[0], "/usr/bin/dummyserver"} {
		if info, err := os.Stat(root + program); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", program, err)
		}
	}
	users, err := os.ReadFile(root + "/etc/passwd")
	if user := ":" + last(t, all, "USER") + ":"; err != nil || !strings.Contains(string(users), user) {
		t.Errorf("user %s is not in the image: %v", user, err)
	}
}

// checkGo wants an image that can build the module.
func checkGo(t *testing.T, base string) {
	t.Helper()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if needed == nil || !strings.HasPrefix(base, "golang:"+string(needed[1])+"-") {
		t.Errorf("FROM %s, but go.mod wants %s", base, needed)
	}
}

// TestComposition runs docker-compose.yaml, each container in a namespace of its own and
// rooted in the image, and asks the balancer on port 8080.
func TestComposition(t *testing.T) {
	t.Parallel()
	s := stage.New(t, stage.Options{RigOptions: testenv.RigOptions{Backends: 2}, Programs: programs})
	hosts := map[string]*testenv.Host{"first": s.Backends[0], "second": s.Backends[1], "balancer": s.Balancer}
	s.Balancer.Do(t, func() error { // as the engine has it
		names := nameserver.NewAt(t, "127.0.0.11:53")
		names.Set(10, "first", nameserver.A(s.BackendAddrs[0].String()))
		names.Set(10, "second", nameserver.A(s.BackendAddrs[1].String()))
		return nil
	})
	c := readComposition(t)
	for _, name := range []string{"first", "second", "balancer"} {
		service, ok := c.Services[name]
		if !ok || service.Image != "fairlead" {
			t.Fatalf("service %s is not of the image: %+v", name, service)
		}
		for _, other := range service.DependsOn {
			if hosts[other] == nil {
				t.Errorf("%s depends on %s, which is none", name, other)
			}
		}
		p := startContainer(t, s, hosts[name], service.Entrypoint, service.Command, service.Volumes)
		if name == "balancer" {
			p.AwaitOutput("sandboxed: ")
		}
	}
	if got := c.Services["balancer"].Ports; len(got) != 1 || got[0] != "8080:8080" {
		t.Errorf("ports are %v, want 8080:8080", got)
	}
	url := fmt.Sprintf("http://%s:8080/", s.ClientAddrs[0].Prev())
	stage.Await(t, "both servers", func() error {
		count, err := s.Spread(0, url, 10)
		if err == nil && (count["first"] != 5 || count["second"] != 5) {
			err = fmt.Errorf("answers came from %v", count)
		}
		return err
	})
}

// startContainer runs a command as an engine does: in the image, as its user, without
// capabilities. Without an entry point or arguments it has the image's.
func startContainer(t *testing.T, s *stage.Stage, on *testenv.Host, entry, args, volumes []string) *stage.Process {
	t.Helper()
	all, root := readDockerfile(t), makeImage(t)
	if len(entry) == 0 {
		entry = list(t, all, "ENTRYPOINT")
	}
	if len(args) == 0 {
		args = list(t, all, "CMD")
	}
	for _, v := range volumes {
		parts := strings.Split(v, ":")
		text, err := os.ReadFile(filepath.Join(deploy, parts[0]))
		if err == nil {
			err = os.WriteFile(root+parts[1], text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/etc/resolv.conf", []byte("nameserver 127.0.0.11\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc "$1/proc" && mount -t tmpfs -o mode=1777 tmpfs "$1/run" && exec chroot --userspec="$2" --groups= "$1" "${@:3}"`
	cmd := exec.Command("unshare", slices.Concat(
		[]string{"--mount", "--propagation", "private", "bash", "-c", script, "bash", root, last(t, all, "USER")}, entry, args)...)
	cmd.Env = strings.Fields(last(t, all, "ENV"))
	return s.StartCommand(on, cmd)
}
