// Package handover starts the process that is to take this one's place, and
// passes things with their descriptors between the two.
//
// It does not know what they are, nor when either side may go on: that is a
// protocol of steps, which the daemon has. A side that dies is seen by the other.
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// variable names the descriptor by which a successor finds its predecessor.
const variable = "FAIRLEAD_HANDOVER"

// batch is how many items go in one message: fewer than the kernel's bound of
// descriptors, and all together short.
const batch = 100

// maxMessage is how long a message may be.
const maxMessage = 128 << 10

// maxText is how long the text of an item may be.
const maxText = 1000

// stepFailed comes with why a process ends; no Receive waits for it.
const stepFailed = "failed"

// sayTime is how long it may take to say that.
const sayTime = time.Second

// endTime is how long a process may take to end.
const endTime = 2 * time.Second

// ErrGone says that the other process has ended, or has nothing more to say. What it
// has said by [Peer.Explain] stands behind it.
var ErrGone = errors.New("the other process is gone")

// An Item is a thing that is passed.
type Item struct {
	Text string   // at most maxText bytes
	File *os.File // belongs to who has it; nil is none
}

// A Peer is the other process. Only one goroutine may send, and one receive.
type Peer struct{ conn *net.UnixConn }

// A message is a part of what one Send sends.
type message struct {
	Step  string
	Texts []string
	Files []int // indexes of Texts that come with a descriptor
	Last  bool
}

// Predecessor returns the process that has started this one as its successor; nil
// if that is not so.
func Predecessor() (*Peer, error) {
	text := os.Getenv(variable)
	if text == "" {
		return nil, nil
	}
	os.Unsetenv(variable)
	fd, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("find the process before this one: %w", err)
	}
	unix.CloseOnExec(int(fd))
	return newPeer(os.NewFile(uintptr(fd), "predecessor"))
}

// newPeer takes over file, an end of a socket pair.
func newPeer(file *os.File) (*Peer, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("reach the other process: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("reach the other process: %s is no socket pair", file.Name())
	}
	return &Peer{u}, nil
}

// Close lets the other process see that this one has nothing more to say.
func (p *Peer) Close() error { return p.conn.Close() }

// SetDeadline bounds all that is sent and received from now on.
func (p *Peer) SetDeadline(t time.Time) { _ = p.conn.SetDeadline(t) } // fails only once it is closed

// Send passes items at a step. It closes no files.
func (p *Peer) Send(step string, items ...Item) error {
	for {
		n := min(len(items), batch)
		m := message{Step: step, Last: n == len(items)}
		var fds []int
		for i, item := range items[:n] {
			m.Texts = append(m.Texts, item.Text)
			if item.File != nil {
				m.Files = append(m.Files, i)
				fds = append(fds, int(item.File.Fd()))
			}
		}
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		var rights []byte
		if len(fds) > 0 {
			rights = unix.UnixRights(fds...)
		}
		_, _, err = p.conn.WriteMsgUnix(data, rights, nil)
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			if _, _, err = p.receive(); !errors.Is(err, ErrGone) {
				err = ErrGone
			}
		}
		if err != nil {
			return fmt.Errorf("send %s: %w", step, err)
		}
		if items = items[n:]; m.Last {
			return nil
		}
	}
}

// Receive waits for the items of a step. The error wraps [ErrGone] if the other
// process ends before that.
func (p *Peer) Receive(step string) (items []Item, err error) {
	for {
		m, files, err := p.receive()
		if err == nil && m.Step != step {
			err = fmt.Errorf("got %s", m.Step)
		}
		if err == nil && len(files) != len(m.Files) {
			err = fmt.Errorf("got %d descriptors of %d", len(files), len(m.Files))
		}
		if err != nil {
			Close(items)
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("wait for %s: %w", step, err)
		}
		for i, text := range m.Texts {
			item := Item{Text: text}
			if at := slices.Index(m.Files, i); at >= 0 {
				item.File = files[at]
			}
			items = append(items, item)
		}
		if m.Last {
			return items, nil
		}
	}
}

// Explain tells the other process, as far as it can, why this one ends.
func (p *Peer) Explain(why error) {
	text := strings.ReplaceAll(why.Error(), "\n", "; ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText-3], "") + "..."
	}
	p.SetDeadline(time.Now().Add(sayTime))
	_ = p.Send(stepFailed, Item{Text: text})
}

// Explain is that of the process's [Predecessor], for who has not asked for it.
func Explain(why error) {
	if p, err := Predecessor(); err == nil && p != nil {
		p.Explain(why)
		p.Close()
	}
}

// Close closes the files of items.
func Close(items []Item) {
	for _, item := range items {
		if item.File != nil {
			item.File.Close()
		}
	}
}

// receive receives one message.
func (p *Peer) receive() (m message, files []*os.File, err error) {
	data, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*batch))
	n, rn, _, _, err := p.conn.ReadMsgUnix(data, rights)
	if errors.Is(err, unix.ECONNRESET) { // it has not read all, and may have said why
		n, rn, _, _, err = p.conn.ReadMsgUnix(data, rights)
	}
	if errors.Is(err, io.EOF) {
		return m, nil, ErrGone
	}
	if err != nil {
		return m, nil, err
	}
	parts, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return m, nil, err
	}
	for i := range parts {
		fds, err := unix.ParseUnixRights(&parts[i])
		if err != nil {
			return m, files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "handed over")) // close-on-exec: net asks for that
		}
	}
	err = json.Unmarshal(data[:n], &m)
	if err == nil && m.Step == stepFailed && len(m.Texts) > 0 {
		err = fmt.Errorf("%w: %s", ErrGone, m.Texts[0])
	}
	return m, files, err
}

// A Successor is the process that was started to take this one's place.
type Successor struct {
	*Peer
	cmd *exec.Cmd
}

// Start starts a command, with the environment and the standard streams of this
// process.
func Start(args []string) (*Successor, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start successor: %w", err)
	}
	own, other := os.NewFile(uintptr(pair[0]), "successor"), os.NewFile(uintptr(pair[1]), "predecessor")
	defer other.Close()
	peer, err := newPeer(own)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{other}
	cmd.Env = append(environment(), variable+"=3")
	if err := cmd.Start(); err != nil {
		peer.Close()
		return nil, fmt.Errorf("start successor: %w", err)
	}
	return &Successor{peer, cmd}, nil
}

// environment is what a successor is to find. Whose watchdog it is, the manager said
// of this process.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, variable+"=") || strings.HasPrefix(v, "WATCHDOG_PID=")
	})
}

// PID returns the process's number.
func (s *Successor) PID() int { return s.cmd.Process.Pid }

// Signal sends it a signal.
func (s *Successor) Signal(sig os.Signal) error { return s.cmd.Process.Signal(sig) }

// End ends the process, waits for it and says how it has ended. One that is gone,
// as [ErrGone] says, is given a moment to end by itself.
func (s *Successor) End(gone bool) string {
	if s.cmd.ProcessState == nil {
		if gone {
			late := time.AfterFunc(endTime, func() { _ = s.cmd.Process.Kill() })
			defer late.Stop()
		} else {
			_ = s.cmd.Process.Kill()
		}
		_ = s.cmd.Wait() // its result is in ProcessState
	}
	s.Close() // not before: it would take over from a process that is gone
	return s.cmd.ProcessState.String()
}

// Release lets the process live on without this one.
func (s *Successor) Release() {
	s.Close()
	_ = s.cmd.Process.Release()
}
