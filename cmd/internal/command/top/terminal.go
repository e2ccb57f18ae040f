package top

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether what is written to w appears on a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// A terminal is the process's own, in raw mode and on its second screen.
type terminal struct {
	f   *os.File
	was unix.Termios
}

// What a terminal is told; see console_codes(4).
const (
	enter  = "\x1b[?1049h\x1b[?25l" // second screen, no cursor
	leave  = "\x1b[?25h\x1b[?1049l"
	home   = "\x1b[H"
	clear  = "\x1b[K" // the line, from here on
	invert = "\x1b[7m"
	plain  = "\x1b[m"
)

// openTerminal takes the terminal over, as an open file of its own, so that
// nobody else's reads wait or fail because of it. The caller restores it.
func openTerminal() (*terminal, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	t := &terminal{f: f}
	err = t.control(func(fd int) error {
		was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		t.was = *was
		raw := *was
		raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN
		raw.Iflag &^= unix.IXON | unix.ICRNL
		raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
		return unix.IoctlSetTermios(fd, unix.TCSETS, &raw)
	})
	if err == nil {
		_, err = f.WriteString(enter)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set terminal: %w", err), t.restore())
	}
	return t, nil
}

// restore leaves the terminal as it was, and closes it.
func (t *terminal) restore() error {
	_, err := t.f.WriteString(leave)
	err = errors.Join(err, t.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &t.was) }), t.f.Close())
	if err != nil {
		return fmt.Errorf("restore terminal: %w", err)
	}
	return nil
}

// control calls f with the descriptor, which stays as it is.
func (t *terminal) control(f func(fd int) error) error {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) { ferr = f(int(fd)) })
	return errors.Join(err, ferr)
}

// size returns how many letters a line has and how many lines there are; 80 and
// 24 where the terminal does not know.
func (t *terminal) size() (width, height int) {
	err := t.control(func(fd int) error {
		s, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			width, height = int(s.Col), int(s.Row)
		}
		return err
	})
	if err != nil || width == 0 || height == 0 {
		return 80, 24
	}
	return width, height
}

// show draws lines in place, all in one write, so that nothing flickers. The
// inverted one is that with the titles.
func (t *terminal) show(lines []string, inverted int) error {
	var b strings.Builder
	b.WriteString(home)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i == inverted {
			l = invert + l + plain
		}
		b.WriteString(clear + l) // not behind it: at the right edge that takes the last letter
	}
	_, err := t.f.WriteString(b.String())
	return err
}

// keys calls f with what is typed until f returns false, [terminal.stopKeys] is
// called or the terminal is gone.
func (t *terminal) keys(f func(typed string) bool) {
	buf := make([]byte, 64)
	for {
		n, err := t.f.Read(buf)
		if err != nil || !f(string(buf[:n])) {
			return
		}
	}
}

// stopKeys ends [terminal.keys].
func (t *terminal) stopKeys() error { return t.f.SetReadDeadline(time.Unix(1, 0)) }
