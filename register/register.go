// Package register makes a program a backend of a Fairlead balancer for as long as
// it runs.
//
//	err := register.Keep(ctx, register.Options{
//		URL: "http://127.0.0.1:8500", Token: token, Address: "10.0.0.7:8080",
//	})
//
// The balancer's configuration has the other half under registration.
package register

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Options say where to register, and as what.
type Options struct {
	// URL is the balancer's, without a path.
	URL string
	// Token is the secret of the pool.
	Token string
	// Address is "address:port", or a URL where the pool's backends have some.
	// ":port" is at the address that the balancer sees.
	Address string
	// Weight is from 0 to 1000, as in the configuration; nil is 1.
	Weight *int
	// TTL is for how long the balancer waits for a sign of life, in whole seconds;
	// 0 is 10 s. There are three in that time.
	TTL time.Duration
	// Client sends the requests; nil is [http.DefaultClient].
	Client *http.Client
	// Failed is told of each request that failed and is tried again; nil is nobody.
	Failed func(error)
}

// ErrRefused is wrapped by errors of requests that would fail again: the token or
// what the backend says of itself is wrong.
var ErrRefused = errors.New("registration refused")

// requestTime is how long a request may take: the balancer may probe the backend.
const requestTime = 5 * time.Second

// An answer is what the balancer says to a registration.
type answer struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

// Keep registers a backend and keeps it registered until ctx is done; then it takes
// it away and returns nil. Requests that fail are tried again. It returns an error
// only if a request would fail again, which wraps [ErrRefused].
func Keep(ctx context.Context, o Options) error {
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	ttl := max(o.TTL.Truncate(time.Second), time.Second)
	if o.TTL == 0 {
		ttl = 10 * time.Second
	}
	o.TTL = ttl
	id := ""
	for {
		got, err := o.register(ctx)
		switch {
		case err == nil:
			id = got
		case errors.Is(err, ErrRefused):
			return err
		case ctx.Err() == nil && o.Failed != nil:
			o.Failed(err)
		}
		wait := time.NewTimer(ttl / 3)
		select {
		case <-ctx.Done():
			wait.Stop()
			o.leave(context.WithoutCancel(ctx), id)
			return nil
		case <-wait.C:
		}
	}
}

// register sends one sign of life and returns the id of the backend.
func (o *Options) register(ctx context.Context) (id string, err error) {
	body, err := json.Marshal(map[string]any{"address": o.Address, "weight": cmp.Or(o.Weight, new(1)), "ttl_seconds": int(o.TTL / time.Second)})
	if err != nil {
		return "", fmt.Errorf("register backend: %w", err)
	}
	// Not given up when ctx is done: the id is needed to leave.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
	defer stop()
	status, a, err := o.send(ctx, http.MethodPost, "/register", body)
	switch {
	case err != nil:
		return "", fmt.Errorf("register backend: %w", err)
	case status == http.StatusOK || status == http.StatusCreated:
		return a.ID, nil
	case status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound:
		return "", fmt.Errorf("%w: status %d: %s", ErrRefused, status, a.Error)
	}
	return "", fmt.Errorf("register backend: status %d: %s", status, a.Error)
}

// leave takes the backend away. If that fails, it goes by itself in time.
func (o *Options) leave(ctx context.Context, id string) {
	if id == "" {
		return
	}
	ctx, stop := context.WithTimeout(ctx, requestTime)
	defer stop()
	if _, _, err := o.send(ctx, http.MethodDelete, "/register/"+id, nil); err != nil && o.Failed != nil {
		o.Failed(fmt.Errorf("leave: %w", err))
	}
}

// send sends a request and reads what is answered.
func (o *Options) send(ctx context.Context, method, path string, body []byte) (status int, a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(o.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, a, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	req.Header.Set("Authorization", "Bearer "+o.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := o.Client.Do(req)
	if err != nil {
		return 0, a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return 0, a, err
	}
	if len(text) > 0 && json.Unmarshal(text, &a) != nil {
		a.Error = http.StatusText(res.StatusCode) // it is no balancer that answers
	}
	return res.StatusCode, a, nil
}
