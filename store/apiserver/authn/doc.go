// SPDX-License-Identifier: Apache-2.0

// Package authn finds out who makes a request to an API server: the first of
// its three gates.
//
//	issuer, err := authn.NewIssuer(authn.IssuerOptions{})
//	…
//	who := authn.First(authn.Certificates(ca), issuer, authn.Tokens(tokens), authn.Anonymous())
//	user, err := who.Authenticate(request)
//
// [Certificates] takes users from client certificates, [Tokens] from a table of
// bearer tokens, [Issuer] from the JSON Web Tokens of service accounts, which it
// also signs; [Anonymous] lets in those who say nothing. [First] asks one after
// the other. Any other way is an [Authenticator] of one's own.
package authn
