package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/http/httpguts"

	"fairlead/userspace/model"
)

// ruleKeys are the keys of ruleFields.
var ruleKeys = []string{
	"request-headers", "response-headers", "rewrite", "error-pages", "compress", "replace", "request-id", "basic-auth", "forward-auth", "mirror",
}

// ruleFields adds the keys of what is changed on the way, which a service has for
// those of its routes that do not have them.
func (r *reader) ruleFields(known fields, h *httpKeys, rules *model.Rules) {
	known["request-headers"] = func(v value) { r.headerRules(v, &rules.RequestHeaders, true) }
	known["response-headers"] = func(v value) { r.headerRules(v, &rules.ResponseHeaders, false) }
	known["rewrite"] = func(v value) { rules.Rewrite = unlessNone(v, r.rewrite) }
	known["error-pages"] = func(v value) { rules.ErrorPages = r.errorPages(v) }
	known["compress"] = func(v value) { rules.Compress = unlessNone(v, r.compress) }
	known["replace"] = func(v value) { rules.Replace = unlessNone(v, r.replace) }
	known["request-id"] = func(v value) { rules.RequestID = unlessNone(v, r.requestID) }
	known["basic-auth"] = func(v value) { rules.BasicAuth = unlessNone(v, r.basicAuth) }
	known["forward-auth"] = func(v value) { rules.ForwardAuth = unlessNone(v, r.forwardAuth) }
	known["mirror"] = func(v value) {
		rules.Mirror = unlessNone(v, func(v value) *model.Mirror { return r.mirror(v, h) })
	}
}

// unlessNone reads a rule that a route may be without although its service has it.
func unlessNone[T any](v value, read func(value) *T) *T {
	if v.Kind == yaml.ScalarNode && v.Value == "none" {
		return nil
	}
	return read(v)
}

// headerRules reads what is done to the headers of requests, or of answers.
func (r *reader) headerRules(v value, h *model.HeaderRules, ofRequests bool) {
	*h = model.HeaderRules{}
	r.object(v, fields{
		"set": func(v value) {
			r.each(v, func(key, v value) { r.headerValue(key, v, &h.Set, ofRequests) })
		},
		"add": func(v value) {
			r.each(v, func(key, v value) {
				if v.Kind != yaml.SequenceNode {
					r.headerValue(key, v, &h.Add, false)
					return
				}
				r.list(v, func(v value) { r.headerValue(key, v, &h.Add, false) })
			})
		},
		"remove": func(v value) {
			r.list(v, func(v value) {
				if name, ok := r.text(v); ok && r.headerName(v, name, false) {
					h.Remove = append(h.Remove, name)
				}
			})
		},
	})
}

func (r *reader) headerValue(key, v value, all *[]model.Header, host bool) {
	s, ok := r.text(v)
	switch {
	case !ok || !r.headerName(key, key.Value, host):
	case strings.EqualFold(key.Value, "host"):
		if r.host(v, &s); s != "" {
			*all = append(*all, model.Header{Name: key.Value, Value: s})
		}
	case !httpguts.ValidHeaderFieldValue(s):
		r.fault(v, badHeaderValue)
	default:
		*all = append(*all, model.Header{Name: key.Value, Value: s})
	}
}

// framing are the headers that say how a message is sent.
var framing = []string{"connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

func (r *reader) headerName(v value, name string, host bool) bool {
	switch low := strings.ToLower(name); {
	case !httpguts.ValidHeaderFieldName(name):
		r.fault(v, "%s is not a header name: use letters, digits and -", quote(name))
	case slices.Contains(framing, low):
		r.fault(v, "%s says how a message is sent, which is not for rules to change: remove it", quote(name))
	case low == "host" && !host:
		r.fault(v, "the host can only be set, under request-headers: write set: {Host: www.example.com} there")
	default:
		return true
	}
	return false
}
