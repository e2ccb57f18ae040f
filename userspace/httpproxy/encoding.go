package httpproxy

import (
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// preferred returns which of our content codings, of which the first is the best,
// a client likes most; "" is none of them (RFC 9110, section 12.5.3).
func preferred(accept, ours []string) string {
	weights := map[string]float64{}
	for _, line := range accept {
		for element := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(element, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			weights[strings.TrimPrefix(name, "x-")] = weight(params)
		}
	}
	best, most := "", 0.0
	for _, name := range ours {
		q, named := weights[name]
		if !named {
			q = weights["*"]
		}
		if q > most {
			best, most = name, q
		}
	}
	if weights["identity"] > most {
		return ""
	}
	return best
}

// weight returns the q of an element's parameters, 0 if it is none.
func weight(params string) float64 {
	name, value, ok := strings.Cut(strings.TrimSpace(params), "=")
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !strings.EqualFold(strings.TrimSpace(name), "q") || q < 0 || q > 1 {
		return 0
	}
	return q
}

// isOfType reports whether the type of a message is one of these. Those with a *
// leave out text/event-stream.
func isOfType(h http.Header, types []string) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	for _, t := range types {
		group, all := strings.CutSuffix(t, "*")
		if kind == t || all && kind != "text/event-stream" && strings.HasPrefix(kind, group) {
			return true
		}
	}
	return false
}

// vary says that an answer depends on a header of the request.
func vary(h http.Header, name string) {
	if !httpguts.HeaderValuesContainsToken(h["Vary"], name) && !httpguts.HeaderValuesContainsToken(h["Vary"], "*") {
		h.Add("Vary", name)
	}
}

// weaken makes the tag of an answer say that its bytes may differ (RFC 9110,
// section 8.8.1).
func weaken(h http.Header) {
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h.Set("Etag", "W/"+tag)
	}
}

// weakenKnown weakens the tag of an answer that says that nothing has changed, if
// the client knows it so.
func weakenKnown(h http.Header, req *http.Request) {
	if tag := h.Get("Etag"); tag != "" && strings.Contains(strings.Join(req.Header["If-None-Match"], ","), "W/"+tag) {
		weaken(h)
	}
}
