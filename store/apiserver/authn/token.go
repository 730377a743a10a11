// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ErrBadToken: the bearer token is not one that the authenticator accepts.
var ErrBadToken = errors.New("the bearer token is not valid")

// Bearer returns the request's bearer token, or "".
func Bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return wsBearer(r)
	}
	return strings.TrimSpace(token)
}

// Tokens authenticates by a fixed table of bearer tokens. Only their hashes are
// kept, and looked up, so that the time taken tells nothing about a token.
func Tokens(users map[string]*User) Authenticator {
	byHash := make(map[[sha256.Size]byte]*User, len(users))
	for token, u := range users {
		byHash[sha256.Sum256([]byte(token))] = authenticated(u)
	}
	return Func(func(r *http.Request) (*User, error) {
		token := Bearer(r)
		if token == "" {
			return nil, nil
		}
		if u := byHash[sha256.Sum256([]byte(token))]; u != nil {
			return u, nil
		}
		return nil, ErrBadToken
	})
}

// cache remembers which tokens were found good, by hash, so that a signature is
// checked once in a while and not with each request.
type cache struct {
	mu   sync.Mutex
	good map[[sha256.Size]byte]cached
}

type cached struct {
	user  *User
	until time.Time
}

const (
	cacheFor  = 10 * time.Second
	cacheSize = 10000
)

func (c *cache) get(hash [sha256.Size]byte, now time.Time) *User {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.good[hash]; ok && now.Before(e.until) {
		return e.user
	}
	return nil
}

func (c *cache) put(hash [sha256.Size]byte, u *User, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.good == nil || len(c.good) >= cacheSize {
		c.good = map[[sha256.Size]byte]cached{} // begin anew: all of them expire within seconds anyway
	}
	c.good[hash] = cached{u, until}
}
