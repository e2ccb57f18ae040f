package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"fairlead/testenv/stage"
)

// eventWays are by which curl asks for events.
var eventWays = [][]string{
	{"--http1.1", plainShop + "events"},
	{"--http2-prior-knowledge", plainShop + "events"},
	{"--http2", tlsShop + "two/events"},
}

// events sends one event, another when the test says so, and ends with its client.
func (s *shop) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	fmt.Fprint(w, "data: one\n\n")
	_ = out.Flush()
	<-s.goOn
	fmt.Fprint(w, "data: two\n\n")
	_ = out.Flush()
	<-r.Context().Done()
	s.gone <- struct{}{}
}

// eventsReachCurl has curl print events as they come, and leave.
func (s *shop) eventsReachCurl(t *testing.T) {
	for _, way := range eventWays {
		wantCount := s.counts(t, 1)
		curl := s.Start(s.Clients[0], tool(t, "curl"), s.curl(append(way, "--no-buffer")...)...)
		curl.AwaitOutput("data: one\n\n")
		s.goOn <- struct{}{}
		curl.AwaitOutput("data: two\n\n")
		curl.Kill()
		select {
		case <-s.gone:
		case <-time.After(stage.Patience):
			t.Fatalf("%v: the server does not see that curl is gone", way)
		}
		wantCount()
	}
}

// What ends a chat.
const (
	bye     = "bye"
	closed  = websocket.StatusCode(4001)
	because = "see you"
)

// chat sends back each message, until one is bye.
func chat(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, text, err := c.Read(r.Context())
		switch {
		case err != nil:
			return
		case string(text) == bye:
			_ = c.Close(closed, because)
			return
		}
		if err := c.Write(r.Context(), kind, text); err != nil {
			return
		}
	}
}

// chats has clients chat, several at a time and in several ways.
func (s *shop) chats(t *testing.T) {
	const each = 4
	urls := []string{"ws://" + shopName + "/chat", "ws://" + shopName + "/two/chat", "wss://" + shopName + "/chat"}
	client := &http.Client{Transport: &http.Transport{DialContext: s.dial, TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()}}}
	defer s.counts(t, each*len(urls))()
	ctx, cancel := context.WithTimeout(t.Context(), stage.Patience)
	defer cancel()
	var all sync.WaitGroup
	for i := range each {
		for _, url := range urls {
			mode := []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover}[i%2]
			all.Go(func() {
				o := &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"other", "chat"}, CompressionMode: mode}
				if err := talk(ctx, url, o); err != nil {
					t.Errorf("%s: %v", url, err)
				}
			})
		}
	}
	all.Wait()
}

// talk chats with a server, in messages of many sizes.
func talk(ctx context.Context, url string, o *websocket.DialOptions) error {
	c, _, err := websocket.Dial(ctx, url, o)
	if err != nil {
		return err
	}
	defer c.CloseNow()
	if c.Subprotocol() != "chat" {
		return fmt.Errorf("protocol %q", c.Subprotocol())
	}
	c.SetReadLimit(-1)
	kinds := []websocket.MessageType{websocket.MessageText, websocket.MessageBinary}
	for i, size := range []int{0, 1, 125, 126, 4096, 65535, 65536, 1 << 20} {
		kind, said := kinds[i%2], bytes.Repeat([]byte{byte('a' + i)}, size)
		if err := say(ctx, c, kind, said); err != nil {
			return err
		}
		if got, heard, err := c.Read(ctx); err != nil || got != kind || !bytes.Equal(heard, said) {
			return fmt.Errorf("%d bytes come back as %d, type %v, error %w", size, len(heard), got, err)
		}
	}
	return pinged(ctx, c)
}

// say sends a message in two frames.
func say(ctx context.Context, c *websocket.Conn, kind websocket.MessageType, text []byte) error {
	w, err := c.Writer(ctx, kind)
	if err != nil {
		return err
	}
	half := len(text) / 2
	_, err = w.Write(text[:half])
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(text[half:]))
	}
	return errors.Join(err, w.Close())
}

// pinged has a ping answered, and then the server end the chat in its own words.
func pinged(ctx context.Context, c *websocket.Conn) error {
	heard := make(chan error, 1)
	go func() {
		_, text, err := c.Read(ctx) // which also takes the answer to the ping
		if err == nil {
			err = fmt.Errorf("message %q, want the end", text)
		}
		heard <- err
	}()
	if err := c.Ping(ctx); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte(bye)); err != nil {
		return err
	}
	err := <-heard
	if websocket.CloseStatus(err) != closed || !strings.Contains(err.Error(), because) {
		return fmt.Errorf("the chat ends with %w", err)
	}
	return nil
}
