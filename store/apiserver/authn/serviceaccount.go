// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The names of service accounts as users and groups.
const (
	ServiceAccountPrefix = "system:serviceaccount:"
	GroupServiceAccounts = "system:serviceaccounts"
)

// ServiceAccountUser returns the user that a service account is.
func ServiceAccountUser(namespace, name, uid string) *User {
	return &User{
		Name:   ServiceAccountPrefix + namespace + ":" + name,
		UID:    uid,
		Groups: []string{GroupServiceAccounts, GroupServiceAccounts + ":" + namespace, GroupAuthenticated},
	}
}

// SplitServiceAccount returns the namespace and name of a service account's
// user name.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, ServiceAccountPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// Bound names an object that a token is bound to: it is good as long as the
// object exists.
type Bound struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// ServiceAccountClaims is what a token says of its bearer, under the claim
// "kubernetes.io" as Kubernetes has it.
type ServiceAccountClaims struct {
	Namespace      string `json:"namespace"`
	ServiceAccount Bound  `json:"serviceaccount"`
	Pod            *Bound `json:"pod,omitempty"`
	Secret         *Bound `json:"secret,omitempty"`
	Node           *Bound `json:"node,omitempty"`
}

type tokenClaims struct {
	jwt.RegisteredClaims
	Kubernetes ServiceAccountClaims `json:"kubernetes.io"`
}

// Issuer signs and checks the tokens of service accounts: JSON Web Tokens (RFC
// 7519) with ECDSA on P-256. It is safe for concurrent use.
type Issuer struct {
	name      string
	audiences []string
	key       *ecdsa.PrivateKey
	keyID     string
	exists    func(context.Context, ServiceAccountClaims) error
	cache     cache
}

// IssuerOptions configure an [Issuer]. The zero value works, for one process.
type IssuerOptions struct {
	// Name is the issuer's URL. "": https://kubernetes.default.svc
	Name string
	// Audiences are accepted, and used for tokens that ask for none. nil: the name.
	Audiences []string
	// Key signs. nil: a new one, so that the tokens are good for this process only.
	Key *ecdsa.PrivateKey
	// Exists refuses tokens whose service account, or what they are bound to, is
	// gone. nil: not checked. Its answer counts for ten seconds.
	Exists func(context.Context, ServiceAccountClaims) error
}

// NewIssuer returns an issuer.
func NewIssuer(opts IssuerOptions) (*Issuer, error) {
	i := &Issuer{name: opts.Name, audiences: opts.Audiences, key: opts.Key, exists: opts.Exists}
	if i.name == "" {
		i.name = "https://kubernetes.default.svc"
	}
	if len(i.audiences) == 0 {
		i.audiences = []string{i.name}
	}
	if i.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make a key for service account tokens: %w", err)
		}
		i.key = key
	}
	if i.key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key for service account tokens: the curve is %s, want P-256", i.key.Curve.Params().Name)
	}
	der, err := i.key.PublicKey.ECDH()
	if err != nil {
		return nil, fmt.Errorf("key for service account tokens: %w", err)
	}
	sum := sha256.Sum256(der.Bytes())
	i.keyID = base64.RawURLEncoding.EncodeToString(sum[:16])
	return i, nil
}

// Token is a signed token and when it expires.
type Token struct {
	Text    string
	Expires time.Time
}

// Issue signs a token for a service account. No audiences means the issuer's
// own; a life of 0 means an hour.
func (i *Issuer) Issue(sa ServiceAccountClaims, audiences []string, life time.Duration) (Token, error) {
	if sa.Namespace == "" || sa.ServiceAccount.Name == "" {
		return Token{}, errors.New("issue a token: the service account has no namespace or no name")
	}
	if len(audiences) == 0 {
		audiences = i.audiences
	}
	if life <= 0 {
		life = time.Hour
	}
	now := time.Now()
	expires := now.Add(life).Truncate(time.Second)
	t := jwt.NewWithClaims(jwt.SigningMethodES256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    i.name,
			Subject:   ServiceAccountPrefix + sa.Namespace + ":" + sa.ServiceAccount.Name,
			Audience:  audiences,
			ExpiresAt: jwt.NewNumericDate(expires),
			NotBefore: jwt.NewNumericDate(now),
			IssuedAt:  jwt.NewNumericDate(now),
			ID:        rand.Text(),
		},
		Kubernetes: sa,
	})
	t.Header["kid"] = i.keyID
	text, err := t.SignedString(i.key)
	if err != nil {
		return Token{}, fmt.Errorf("sign the token of %s/%s: %w", sa.Namespace, sa.ServiceAccount.Name, err)
	}
	return Token{text, expires}, nil
}

// Authenticate implements [Authenticator]: tokens of another issuer are not its
// business, those of its own must be good.
func (i *Issuer) Authenticate(r *http.Request) (*User, error) {
	token := Bearer(r)
	if strings.Count(token, ".") != 2 {
		return nil, nil
	}
	hash := sha256.Sum256([]byte(token))
	now := time.Now()
	if u := i.cache.get(hash, now); u != nil {
		return u, nil
	}
	u, _, expires, err := i.Review(r.Context(), token, nil)
	if err != nil || u == nil {
		return nil, err
	}
	until := now.Add(cacheFor)
	if expires.Before(until) {
		until = expires
	}
	i.cache.put(hash, u, until)
	return u, nil
}

// Review checks a token for one of the audiences, none meaning the issuer's own.
// It returns whose it is, which of the audiences it is good for, and until when.
// The user is nil for a token of another issuer.
func (i *Issuer) Review(ctx context.Context, text string, audiences []string) (u *User, good []string, expires time.Time, err error) {
	if len(audiences) == 0 {
		audiences = i.audiences
	}
	var unverified tokenClaims
	if _, _, err := jwt.NewParser().ParseUnverified(text, &unverified); err != nil || unverified.Issuer != i.name {
		return nil, nil, time.Time{}, nil
	}
	var c tokenClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithIssuer(i.name), jwt.WithExpirationRequired())
	if _, err := parser.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return &i.key.PublicKey, nil }); err != nil {
		return nil, nil, time.Time{}, fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	for _, a := range c.Audience {
		if slices.Contains(audiences, a) {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return nil, nil, time.Time{}, fmt.Errorf("%w: it is for %q, not for %q", ErrBadToken, c.Audience, audiences)
	}
	if i.exists != nil {
		if err := i.exists(ctx, c.Kubernetes); err != nil {
			return nil, nil, time.Time{}, fmt.Errorf("%w: %w", ErrBadToken, err)
		}
	}
	u = ServiceAccountUser(c.Kubernetes.Namespace, c.Kubernetes.ServiceAccount.Name, c.Kubernetes.ServiceAccount.UID)
	if pod := c.Kubernetes.Pod; pod != nil {
		u.Extra = map[string][]string{
			"authentication.kubernetes.io/pod-name": {pod.Name},
			"authentication.kubernetes.io/pod-uid":  {pod.UID},
		}
	}
	return u, good, c.ExpiresAt.Time, nil
}

// JWKS returns the JSON Web Key Set (RFC 7517) with which others check tokens:
// what is served at /openid/v1/jwks.
func (i *Issuer) JWKS() []byte {
	pub, err := i.key.PublicKey.ECDH()
	if err != nil {
		panic(fmt.Sprintf("authn: the key was checked when the issuer was made: %v", err))
	}
	point := pub.Bytes() // 4, x, y: 1 + 32 + 32 bytes
	b64 := base64.RawURLEncoding.EncodeToString
	return mustJSON(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": i.keyID,
		"x": b64(point[1:33]), "y": b64(point[33:65]),
	}}})
}

// Discovery returns the OpenID configuration: what is served at
// /.well-known/openid-configuration.
func (i *Issuer) Discovery(jwksURI string) []byte {
	return mustJSON(map[string]any{
		"issuer":                                i.name,
		"jwks_uri":                              jwksURI,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
}

// Public returns the key with which tokens are checked.
func (i *Issuer) Public() crypto.PublicKey { return &i.key.PublicKey }

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("authn: %v", err))
	}
	return data
}
