package httpproxy

import (
	"io"
	"net/http"
)

// A tap is a [http.ResponseWriter] by which a link sees the header of an answer
// before the client does, and may take its body. The link calls end when the
// handlers after it have returned; if they panic the body stays unfinished.
type tap struct {
	http.ResponseWriter
	// begin is called once, for the status that is final. The body goes to what
	// it returns, or on as it is if that is nil.
	begin func(status int) sink
	begun bool
	sink  sink
}

// A sink takes the body of an answer. Close finishes it.
type sink interface {
	io.WriteCloser
	Flush() error
}

func (t *tap) WriteHeader(status int) {
	if status >= 200 && !t.begun {
		t.begun = true
		t.sink = t.begin(status)
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tap) Write(b []byte) (int, error) {
	t.start()
	if t.sink != nil {
		return t.sink.Write(b)
	}
	return t.ResponseWriter.Write(b)
}

// FlushError is for [http.ResponseController].
func (t *tap) FlushError() error {
	t.start()
	if t.sink != nil {
		if err := t.sink.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(t.ResponseWriter).Flush()
}

// Unwrap is for [http.ResponseController].
func (t *tap) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// start begins an answer whose status goes without saying.
func (t *tap) start() {
	if !t.begun {
		t.WriteHeader(http.StatusOK)
	}
}

// end finishes the body.
func (t *tap) end() {
	if t.sink != nil {
		_ = t.sink.Close() // who is gone has been found by a Write
	}
}
