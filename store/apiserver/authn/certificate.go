// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"crypto/x509"
	"fmt"
	"net/http"
)

// Certificates takes the user from the client certificate of a TLS connection:
// the common name is the user, the organizations are the groups. The
// certificate must be signed by one of the roots, for client authentication.
func Certificates(roots *x509.CertPool) Authenticator {
	return Func(func(r *http.Request) (*User, error) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			return nil, nil
		}
		leaf := r.TLS.PeerCertificates[0]
		opts := x509.VerifyOptions{
			Roots:         roots,
			Intermediates: x509.NewCertPool(),
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		for _, c := range r.TLS.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		if _, err := leaf.Verify(opts); err != nil {
			return nil, fmt.Errorf("client certificate of %q: %w", leaf.Subject.CommonName, err)
		}
		if leaf.Subject.CommonName == "" {
			return nil, fmt.Errorf("client certificate %v has no common name", leaf.SerialNumber)
		}
		return authenticated(&User{Name: leaf.Subject.CommonName, Groups: leaf.Subject.Organization}), nil
	})
}
