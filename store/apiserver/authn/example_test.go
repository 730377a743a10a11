// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
)

// The token of a service account, issued and recognised.
func ExampleIssuer() {
	issuer, err := authn.NewIssuer(authn.IssuerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	token, err := issuer.Issue(authn.ServiceAccountClaims{Namespace: "prod", ServiceAccount: authn.Bound{Name: "robot"}}, nil, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token.Text)
	user, err := authn.First(issuer, authn.Anonymous()).Authenticate(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Name, user.Groups)
	// Output: system:serviceaccount:prod:robot [system:serviceaccounts system:serviceaccounts:prod system:authenticated]
}
