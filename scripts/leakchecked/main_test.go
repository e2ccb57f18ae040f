package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/testenv/leak"
)

func TestMain(m *testing.M) { leak.Each(m).Run() }

func TestUnchecked(t *testing.T) {
	const (
		imported = "package a\n\nimport (\n\t\"testing\"\n\n\t\"fairlead/testenv/leak\"\n)\n\n"
		other    = "package a\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n"
	)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"a check in another file", map[string]string{"a/main_test.go": imported + "func TestMain(m *testing.M) { leak.Each(m).Run() }\n", "a/b_test.go": other}, nil},
		{"a check handed on", map[string]string{"a/a_test.go": imported + "func TestMain(m *testing.M) { os.Exit(stage.Main(leak.Each(m), &p)) }\n"}, nil},
		{"no TestMain", map[string]string{"b/b_test.go": other, "a/a_test.go": other}, []string{"a", "b"}},
		{"a check of another directory", map[string]string{"a/a_test.go": imported + "func TestMain(m *testing.M) { leak.Each(m).Run() }\n", "a/b/b_test.go": other}, []string{"a/b"}},
		{"a TestMain without", map[string]string{"a/a_test.go": imported + "func TestMain(m *testing.M) { m.Run() }\n\nfunc f(m *testing.M) { leak.Each(m).Run() }\n"}, []string{"a"}},
		{"a method", map[string]string{"a/a_test.go": imported + "func (x) TestMain(m *testing.M) { leak.Each(m).Run() }\n"}, []string{"a"}},
		{"another package leak", map[string]string{"a/a_test.go": "package a\n\nimport \"other/leak\"\n\nfunc TestMain(m *testing.M) { leak.Each(m).Run() }\n"}, []string{"a"}},
		{"a comment", map[string]string{"a/a_test.go": imported + "func TestMain(m *testing.M) { m.Run() } // leak.Each(m)\n"}, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var paths []string
			for path, src := range tt.files {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(src), 0o644); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, path)
			}
			got, err := unchecked(paths)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("directories (-want +got):\n%s", diff)
			}
		})
	}
}
