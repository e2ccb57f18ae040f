package httpproxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"slices"
	"time"

	"fairlead/userspace/model"
)

// A seal makes and reads the values of a pool's cookies: which backend, until when,
// and a signature, in base64. What backends there are cannot be seen by them.
type seal struct {
	pool string
	key  []byte
	ids  map[[idSize]byte]int // indexes of backends
	of   [][idSize]byte       // by index
}

const (
	idSize   = 8
	bodySize = idSize + 8
	signSize = 16
)

// newSeal returns the seal of a pool's cookies, nil if it has none.
func newSeal(conf *model.Pool) *seal {
	if conf.Sticky.By != model.StickyCookie {
		return nil
	}
	s := &seal{pool: conf.Name, key: []byte(conf.Sticky.Key), ids: map[[idSize]byte]int{}}
	for i, b := range conf.Backends {
		id := [idSize]byte(s.sum("backend", []byte(identity(b))))
		s.ids[id] = i
		s.of = append(s.of, id)
	}
	return s
}

// sum returns what only who has the key can make of data.
func (s *seal) sum(what string, data []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(what + "\x00" + s.pool + "\x00"))
	h.Write(data)
	return h.Sum(nil)
}

// value returns that of a cookie for the i-th backend.
func (s *seal) value(i int, until int64) string {
	data := binary.BigEndian.AppendUint64(s.of[i][:], uint64(until))
	return base64.RawURLEncoding.EncodeToString(append(data, s.sum("cookie", data)[:signSize]...))
}

// read returns the stay that one of some cookies gives proof of.
func (s *seal) read(cookies []*http.Cookie, backends []*backend, now time.Time) stay {
	for _, c := range cookies {
		data, err := base64.RawURLEncoding.DecodeString(c.Value)
		if err != nil || len(data) != bodySize+signSize || !hmac.Equal(s.sum("cookie", data[:bodySize])[:signSize], data[bodySize:]) {
			continue
		}
		until := int64(binary.BigEndian.Uint64(data[idSize:bodySize]))
		i, ok := s.ids[[idSize]byte(data[:idSize])]
		if ok && (until == 0 || now.Unix() < until) {
			return stay{backend: backends[i], until: until}
		}
	}
	return stay{}
}

var sameSites = map[model.SameSite]http.SameSite{
	model.SameSiteLax: http.SameSiteLaxMode, model.SameSiteStrict: http.SameSiteStrictMode, model.SameSiteNone: http.SameSiteNoneMode,
}

// newCookie returns the cookie that the client is to get with the answer: if it
// has another backend than the one that answers, or would not last. "" is none.
func (x *exchange) newCookie() string {
	t := x.attempt.turn
	c, now := &t.set.conf.Sticky, time.Now()
	if c.By != model.StickyCookie {
		return ""
	}
	if x.stay.backend == t.backend && lasts(c, x.stay.until-now.Unix(), x.stay.until == 0) || x.stay.full && x.stay.backend != t.backend {
		return ""
	}
	cookie := http.Cookie{
		Name: c.Name, Path: c.Path, Domain: c.Domain, HttpOnly: c.HTTPOnly,
		Secure:   c.Secure == model.SecureYes || c.Secure == model.SecureAuto && x.secure(),
		SameSite: sameSites[c.SameSite],
	}
	until := int64(0)
	if c.Lifetime > 0 {
		cookie.MaxAge = int(c.Lifetime / time.Second)
		until = now.Add(c.Lifetime).Unix()
	}
	cookie.Value = t.set.seal.value(slices.Index(t.set.backends, t.backend), until)
	return cookie.String()
}

// lasts reports whether a cookie that is good for so many seconds, or for ever,
// need not be renewed: it is as long as the configuration has it, half of it over
// at most.
func lasts(c *model.Sticky, left int64, ever bool) bool {
	if ever || c.Lifetime == 0 {
		return ever && c.Lifetime == 0
	}
	whole := int64(c.Lifetime / time.Second)
	return 2*left >= whole && left <= whole
}
