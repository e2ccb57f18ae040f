package config

import (
	"testing"

	"fairlead/userspace/model"
)

func TestFlowLogs(t *testing.T) {
	for _, row := range []struct {
		text string
		want model.FlowLog
	}{
		{"", model.FlowLog{}},
		{"flow-log: {file: /var/log/f}\n", model.FlowLog{File: "/var/log/f", Sample: 1}},
		{"flow-log: {sample: 1000, file: /var/log/f}\n", model.FlowLog{File: "/var/log/f", Sample: 1000}},
	} {
		s, err := Parse("f", []byte(row.text+"services: []\n"))
		if err != nil || s.FlowLog != row.want {
			t.Errorf("%q: %+v, %v; want %+v", row.text, s.FlowLog, err, row.want)
		}
	}
}

func TestTracing(t *testing.T) {
	for _, row := range []struct {
		text string
		want model.Tracing
	}{
		{"", model.Tracing{}},
		{"tracing: {endpoint: 'http://127.0.0.1:4318'}\n", model.Tracing{Endpoint: "http://127.0.0.1:4318", Sample: 1}},
		{"tracing: {sample: 100, endpoint: 'https://c.example/v1/traces'}\n", model.Tracing{Endpoint: "https://c.example/v1/traces", Sample: 100}},
	} {
		s, err := Parse("f", []byte(row.text+"services: []\n"))
		if err != nil || s.Tracing != row.want {
			t.Errorf("%q: %+v, %v; want %+v", row.text, s.Tracing, err, row.want)
		}
	}
}

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
