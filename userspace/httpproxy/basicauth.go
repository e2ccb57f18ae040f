package httpproxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"fairlead/userspace/model"
)

// basicAuth lets only users pass who know their password.
func basicAuth(r *model.Route, next http.Handler) http.Handler {
	rule := r.BasicAuth
	if rule == nil {
		return next
	}
	challenge := "Basic realm=" + quoted(rule.Realm) + `, charset="UTF-8"`
	hashes := map[string]string{}
	for _, u := range rule.Users {
		hashes[u.Name] = u.Hash
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		name, password, ok := req.BasicAuth()
		if ok {
			hash, known := hashes[name]
			if !known {
				hash = rule.Users[0].Hash // so that it takes as long
			}
			ok = passwords.fit(req.Context(), hash, password, known)
		}
		if err := req.Context().Err(); !ok && err != nil { // there was no time to see
			refuseFor(w, req, err)
			return
		}
		if !ok {
			w.Header().Set("Www-Authenticate", challenge)
			refuse(w, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// passwords are those that were right, of all routes.
var passwords = newVerified()

// maxVerified bounds how many are remembered.
const maxVerified = 10_000

// verified passwords need not be hashed again, which takes long on purpose. What
// is kept of them is no use to anybody who does not have the key.
type verified struct {
	key   []byte
	turns chan struct{} // hashing takes a processor, requests need some too

	mu    sync.RWMutex
	right map[[sha256.Size]byte]struct{}
}

func newVerified() *verified {
	v := &verified{key: make([]byte, 32), turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), right: map[[sha256.Size]byte]struct{}{}}
	_, _ = rand.Read(v.key) // never fails
	return v
}

// fit reports whether a user is known and a hash is that of a password.
func (v *verified) fit(ctx context.Context, hash, password string, known bool) bool {
	mac := hmac.New(sha256.New, v.key)
	mac.Write([]byte(hash))
	mac.Write([]byte{0})
	mac.Write([]byte(password))
	sum := [sha256.Size]byte(mac.Sum(nil))
	v.mu.RLock()
	_, right := v.right[sum]
	v.mu.RUnlock()
	if right && known {
		return true
	}
	select {
	case v.turns <- struct{}{}:
		defer func() { <-v.turns }()
	case <-ctx.Done():
		return false
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.right) >= maxVerified {
		clear(v.right)
	}
	v.right[sum] = struct{}{}
	return true
}
