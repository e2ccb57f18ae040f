package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"fairlead/userspace/model"
)

// maxVerdict bounds the body of an answer by which a request may not pass.
const maxVerdict = 1 << 20

// judges is how those are asked who judge requests.
var judges = &http.Transport{
	DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: model.DefaultKeepAlive, MaxResponseHeaderBytes: model.DefaultMaxHeader,
}

// forwardAuth lets requests pass that somebody else lets pass.
func forwardAuth(r *model.Route, next http.Handler) http.Handler {
	rule := r.ForwardAuth
	if rule == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		res, body, err := consult(rule, req)
		switch x := exchangeOf(req.Context()); {
		case err == nil && res.StatusCode/100 == 2:
			for _, name := range rule.Headers {
				x.say(req, name, res.Header.Values(name))
			}
			next.ServeHTTP(w, req)
		case err == nil:
			answerAs(w, res, body)
		default:
			x.proxy.log().Debug("ask whether a request may pass", "client", x.peer, "err", err)
			refuseFor(w, req, err)
		}
	})
}

// consult sends what is known of a request and returns the whole answer, whose body
// is empty if the request may pass.
func consult(rule *model.ForwardAuth, req *http.Request) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(req.Context(), rule.Timeout)
	defer cancel()
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, rule.URL, nil)
	if err != nil {
		return nil, nil, err
	}
	x := exchangeOf(req.Context())
	out.Header = req.Header.Clone()
	removeHopByHop(out.Header)
	for name := range out.Header { // what is about the body, or the state of what is asked for
		if low := strings.ToLower(name); strings.HasPrefix(low, "content-") || strings.HasPrefix(low, "if-") || low == "expect" || low == "range" {
			delete(out.Header, name)
		}
	}
	setForwarded(x, out.Header)
	for name, value := range map[string]string{"X-Forwarded-Method": req.Method, "X-Forwarded-Uri": uriOf(x.path, req)} {
		dropAlike(out.Header, name)
		out.Header.Set(name, value)
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", "") // or there would be one of Go's
	}
	res, err := judges.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxVerdict+1))
	if err == nil && len(body) > maxVerdict {
		err = fmt.Errorf("read answer: more than %d bytes", maxVerdict)
	}
	return res, body, err
}

func uriOf(path string, req *http.Request) string {
	if req.URL.RawQuery != "" || req.URL.ForceQuery {
		path += "?" + req.URL.RawQuery
	}
	return path
}

// answerAs answers what another one has.
func answerAs(w http.ResponseWriter, res *http.Response, body []byte) {
	removeHopByHop(res.Header)
	h := w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // or the server would guess one
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(body) // who is gone is gone
}

// refuseFor answers a request that an error has ended.
func refuseFor(w http.ResponseWriter, req *http.Request, err error) {
	switch ctx := req.Context(); {
	case errors.Is(context.Cause(ctx), errRequestLate), ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		refuse(w, http.StatusGatewayTimeout)
	case errors.Is(context.Cause(ctx), errBodyLate):
		refuse(w, http.StatusRequestTimeout)
	case ctx.Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	default:
		refuse(w, http.StatusBadGateway)
	}
}
