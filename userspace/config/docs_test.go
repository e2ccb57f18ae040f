package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestTheExamplesOfTheDocumentationParse(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 5 {
		t.Fatalf("%d examples, want 5 or more", len(blocks))
	}
	for _, m := range blocks {
		files := []string{m[1]}
		switch {
		case strings.HasPrefix(m[1], "health:"):
			files = strings.Split(strings.TrimSpace(m[1]), "\n")
			for i, line := range files {
				files[i] = serviceFile(tcpService + line)
			}
		case !strings.Contains(m[1], "services:"):
			files[0] += "services: []\n"
		}
		for _, file := range files {
			if _, err := Parse("configuration.md", []byte(file)); err != nil {
				t.Errorf("%v in\n%s", err, file)
			}
		}
	}
}
