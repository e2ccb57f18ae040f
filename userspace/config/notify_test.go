package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairlead/userspace/model"
)

func TestWhoIsToldOfChanges(t *testing.T) {
	s, err := Parse("f", []byte(`services: []
notify:
  - {command: [/bin/tell, web]}
  - {url: "https://hooks.example.com/a?b", headers: {Authorization: Bearer x}, timeout: 3s, rate: 10}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []model.Notify{
		{Command: []string{"/bin/tell", "web"}, Timeout: 10 * time.Second, Rate: 60},
		{URL: "https://hooks.example.com/a?b", Headers: []model.Header{{Name: "Authorization", Value: "Bearer x"}}, Timeout: 3 * time.Second, Rate: 10},
	}
	if diff := cmp.Diff(want, s.Notify); diff != "" {
		t.Errorf("notify (-want +got):\n%s", diff)
	}
}
