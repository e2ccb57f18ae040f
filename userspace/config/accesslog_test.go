package config

import (
	"testing"

	"fairlead/userspace/model"
)

func TestAccessLogs(t *testing.T) {
	for _, row := range []struct {
		text string
		want model.AccessLog
	}{
		{"", model.AccessLog{}},
		{"access-log: {file: /var/log/a}\n", model.AccessLog{File: "/var/log/a", Format: "json"}},
		{"access-log: {format: '{client} {path}', file: /var/log/a}\n", model.AccessLog{File: "/var/log/a", Format: "{client} {path}"}},
	} {
		s, err := Parse("f", []byte(row.text+"services: []\n"))
		if err != nil || s.AccessLog != row.want {
			t.Errorf("%q: %+v, %v; want %+v", row.text, s.AccessLog, err, row.want)
		}
	}
}
