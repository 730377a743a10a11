// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"context"
	"fmt"
	"log"

	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
)

// The first authorizer that has an opinion decides; without one, the answer is no.
func ExampleFirst() {
	readers := authz.Func(func(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
		if a.Verb == "get" {
			return authz.Allow, "", nil
		}
		return authz.NoOpinion, "readers only read", nil
	})
	may := authz.First(authz.Masters(), readers)
	for _, a := range []authz.Attributes{
		{User: &authn.User{Name: "root", Groups: []string{authn.GroupMasters}}, Verb: "delete", Resource: "pods"},
		{User: &authn.User{Name: "bob"}, Verb: "get", Resource: "pods"},
		{User: &authn.User{Name: "bob"}, Verb: "delete", Resource: "pods"},
	} {
		decision, reason, err := may.Authorize(context.Background(), a)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %t %q\n", a.User.Name, a.Verb, decision == authz.Allow, reason)
	}
	// Output:
	// root delete true ""
	// bob get true ""
	// bob delete false "readers only read"
}
