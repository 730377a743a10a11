// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/slipway-dev/slipway/store"
	"github.com/slipway-dev/slipway/store/apiserver"
	"github.com/slipway-dev/slipway/store/apiserver/admission"
	"github.com/slipway-dev/slipway/store/apiserver/authn"
	"github.com/slipway-dev/slipway/store/apiserver/authz"
	"github.com/slipway-dev/slipway/store/apiserver/builtin"
	"github.com/slipway-dev/slipway/store/memory"
)

// guarded is a fixture with every gate, and a token for each user: its name.
func guarded(t *testing.T) (*fixture, *authn.Issuer) {
	t.Helper()
	st := memory.New(memory.Options{})
	t.Cleanup(func() { st.Close() })
	issuer, err := authn.NewIssuer(authn.IssuerOptions{Exists: builtin.TokenOwners(st)})
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]*authn.User{
		"admin": {Name: "admin", Groups: []string{authn.GroupMasters}},
		"bob":   {Name: "bob"},
		"eve":   {Name: "eve"},
		"n1":    {Name: "system:node:n1", Groups: []string{authn.GroupNodes}},
	}
	rbac := authz.RBAC{Store: st}
	may := authz.First(authz.Masters(), authz.Node{Store: st}, rbac)
	s, err := apiserver.New(st, apiserver.Options{
		Authenticator: authn.First(issuer, authn.Tokens(users), authn.Anonymous()), Authorizer: may, Issuer: issuer,
		Admission: []admission.Plugin{admission.NamespaceLifecycle(), admission.ServiceAccount(true), admission.LimitRanges(), admission.Priority(),
			admission.DefaultTolerations(), admission.Escalation(rbac, may), admission.ResourceQuotas()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := builtin.Register(s, append(builtin.All(), backups())...); err != nil {
		t.Fatal(err)
	}
	if err := builtin.Bootstrap(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	f := serveFixture(t, st, s)
	f.want(f.as("admin", "POST", "/api/v1/namespaces", `{"metadata":{"name":"a"}}`), 201)
	f.want(f.as("admin", "POST", "/api/v1/namespaces/a/serviceaccounts", `{"metadata":{"name":"default"}}`), 201)
	return f, issuer
}

// as sends a request with a token.
func (f *fixture) as(token, method, path, body string) answer {
	f.Helper()
	return f.do(method, path, body, "Authorization: Bearer "+token)
}

func TestAuthentication(t *testing.T) {
	f, issuer := guarded(t)
	f.want(f.as("nobody", "GET", podsPath, ""), 401, `"reason":"Unauthorized"`)
	f.want(f.do("GET", podsPath, ""), 403, `User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\"`)
	f.want(f.do("GET", "/version", ""), 200)
	f.want(f.do("GET", "/metrics", ""), 403, `cannot get path \"/metrics\"`)
	f.want(f.do("GET", "/openid/v1/jwks", "", "Authorization: Bearer admin"), 200, `"kty":"EC"`)
	me := func(token string) answer {
		return f.as(token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`)
	}
	f.want(me("bob"), 201, `"username":"bob"`, "system:authenticated")

	sa := f.as("admin", "GET", "/api/v1/namespaces/a/serviceaccounts/default", "")
	claims := authn.ServiceAccountClaims{Namespace: "a", ServiceAccount: authn.Bound{Name: "default", UID: sa.get("metadata.uid")}}
	issue := func(c authn.ServiceAccountClaims, life time.Duration) string {
		t.Helper()
		token, err := issuer.Issue(c, nil, life)
		if err != nil {
			t.Fatal(err)
		}
		return token.Text
	}
	good := issue(claims, time.Hour)
	f.want(me(good), 201, `"username":"system:serviceaccount:a:default"`, "system:serviceaccounts:a")
	f.want(f.as("admin", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", fmt.Sprintf(`{"spec":{"token":%q}}`, good)), 201, `"authenticated":true`)
	f.want(f.as("admin", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"forged"}}`), 201, `"error"`)
	parts := strings.Split(good, ".")
	f.want(me(parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2]))), 401)
	f.want(me("eyJhbGciOiJub25lIn0."+parts[1]+"."), 401)
	f.want(me(issue(claims, time.Nanosecond)), 401)
	claims.ServiceAccount.UID = "another"
	f.want(me(issue(claims, time.Hour)), 401)
	other, err := authn.NewIssuer(authn.IssuerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := other.Issue(claims, nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	f.want(me(forged.Text), 401)
}

func TestRBAC(t *testing.T) {
	f, _ := guarded(t)
	const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/a"
	can := func(token, verb, resource, name string) string {
		t.Helper()
		return f.want(f.as(token, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
			fmt.Sprintf(`{"spec":{"resourceAttributes":{"namespace":"a","verb":%q,"resource":%q,"name":%q}}}`, verb, resource, name)), 201).get("status.allowed")
	}
	f.want(f.as("bob", "GET", podsPath, ""), 403)
	f.want(f.as("admin", "POST", rbac+"/roles", `{"metadata":{"name":"reader"},"rules":[{"apiGroups":[""],"resources":["pods","pods/log"],"verbs":["get","list"]},
		{"apiGroups":[""],"resources":["configmaps"],"resourceNames":["one"],"verbs":["*"]}]}`), 201)
	f.want(f.as("admin", "POST", rbac+"/rolebindings", `{"metadata":{"name":"bob"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"reader"},"subjects":[{"kind":"User","name":"bob"}]}`), 201)
	f.want(f.as("bob", "GET", podsPath, ""), 200) // at once
	for _, c := range []struct{ verb, resource, name, want string }{
		{"get", "pods", "", "true"}, {"watch", "pods", "", "false"}, {"get", "pods/log", "", "false"}, // a subresource has a field of its own
		{"get", "configmaps", "one", "true"}, {"get", "configmaps", "two", "false"}, {"delete", "configmaps", "one", "true"}, {"get", "secrets", "", "false"},
	} {
		if got := can("bob", c.verb, c.resource, c.name); got != c.want {
			t.Errorf("bob can %s %s %s: %s, want %s", c.verb, c.resource, c.name, got, c.want)
		}
	}
	f.want(f.as("bob", "GET", "/api/v1/namespaces/kube-system/pods", ""), 403)
	f.want(f.as("bob", "GET", "/api/v1/namespaces/a/configmaps?fieldSelector=metadata.name=one", ""), 200) // allowed by name
	f.want(f.as("bob", "GET", "/api/v1/namespaces/a/configmaps", ""), 403)
	f.want(f.as("bob", "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", `{"spec":{"namespace":"a"}}`), 201, `"resourceNames":["one"]`)

	// Nobody gives away more than they have.
	f.want(f.as("admin", "POST", rbac+"/roles", `{"metadata":{"name":"rbac"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings"],"verbs":["create","update","get"]}]}`), 201)
	f.want(f.as("admin", "POST", rbac+"/rolebindings", `{"metadata":{"name":"rbac"},"roleRef":{"kind":"Role","name":"rbac"},"subjects":[{"kind":"User","name":"bob"}]}`), 201)
	f.want(f.as("bob", "POST", rbac+"/roles", `{"metadata":{"name":"more"},"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}`), 403, "attempting to grant RBAC permissions not currently held", `Resources:[\"secrets\"]`)
	f.want(f.as("bob", "POST", rbac+"/roles", `{"metadata":{"name":"same"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`), 201)
	f.want(f.as("bob", "POST", rbac+"/rolebindings", `{"metadata":{"name":"me"},"roleRef":{"kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","name":"bob"}]}`), 403, "not currently held")
	f.want(f.as("bob", "POST", rbac+"/rolebindings", `{"metadata":{"name":"eve"},"roleRef":{"kind":"Role","name":"same"},"subjects":[{"kind":"User","name":"eve"}]}`), 201)
	f.want(f.as("eve", "GET", podsPath+"/x", ""), 404)
	f.want(f.as("admin", "PATCH", rbac+"/rolebindings/eve", `{}`), 415)
	f.want(f.do("PATCH", rbac+"/rolebindings/eve", `{"roleRef":{"name":"other"}}`, "Authorization: Bearer admin", mergePatch), 422, "field is immutable")

	f.want(f.do("GET", podsPath, "", "Authorization: Bearer admin", "Impersonate-User: bob"), 200)
	f.want(f.do("GET", "/api/v1/secrets", "", "Authorization: Bearer admin", "Impersonate-User: bob"), 403, `User \"bob\"`)
	f.want(f.do("GET", podsPath, "", "Authorization: Bearer bob", "Impersonate-User: admin"), 403, "cannot impersonate")
}

func TestNode(t *testing.T) {
	f, _ := guarded(t)
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"mine"},"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i","envFrom":[{"secretRef":{"name":"needed"}}]}]}}`), 201)
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"other"},"spec":{"nodeName":"n2","containers":[{"name":"c","image":"i"}]}}`), 201)
	for _, name := range []string{"needed", "hidden"} {
		f.want(f.as("admin", "POST", "/api/v1/namespaces/a/secrets", fmt.Sprintf(`{"metadata":{"name":%q}}`, name)), 201)
	}
	f.want(f.as("n1", "POST", "/api/v1/nodes", `{"metadata":{"name":"n1"},"status":{"phase":"Running"}}`), 201, `"phase":"Running"`)
	f.want(f.as("n1", "GET", "/api/v1/namespaces/a/secrets/needed", ""), 200)
	f.want(f.as("n1", "GET", "/api/v1/namespaces/a/secrets/hidden", ""), 403)
	f.want(f.as("n1", "GET", "/api/v1/namespaces/a/secrets", ""), 403)
	patch := func(path string) answer {
		return f.do("PATCH", path, `{"status":{"phase":"Running"}}`, "Authorization: Bearer n1", mergePatch)
	}
	f.want(patch(podsPath+"/mine/status"), 200)
	f.want(patch(podsPath+"/other/status"), 403)
	f.want(patch("/api/v1/nodes/n2/status"), 403)
	f.want(f.as("n1", "POST", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", `{"metadata":{"name":"n1"}}`), 201)
}

func TestAdmission(t *testing.T) {
	f, _ := guarded(t)
	a := f.want(f.as("admin", "POST", podsPath, podJSON("p")), 201)
	for path, want := range map[string]string{
		"spec.serviceAccountName": "default", "spec.priority": "0", "spec.tolerations.1.tolerationSeconds": "300",
		"spec.containers.0.volumeMounts.0.mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
	} {
		if got := a.get(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	f.want(f.as("admin", "POST", "/api/v1/namespaces/nope/pods", podJSON("p")), 404, `namespaces \"nope\" not found`)
	f.want(f.as("admin", "POST", "/api/v1/namespaces/kube-public/pods", podJSON("p")), 403, `serviceaccount \"default\" not found`)
	f.want(f.as("admin", "DELETE", "/api/v1/namespaces/default", ""), 403, "this namespace may not be deleted")
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"q"},"spec":{"priorityClassName":"high","containers":[{"name":"c","image":"i"}]}}`), 403, "no PriorityClass with name high was found")
	f.want(f.as("admin", "POST", "/apis/scheduling.k8s.io/v1/priorityclasses", `{"metadata":{"name":"high"},"value":1000}`), 201)
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"q"},"spec":{"priorityClassName":"high","containers":[{"name":"c","image":"i"}]}}`), 201, `"priority":1000`)

	f.want(f.as("admin", "POST", "/api/v1/namespaces/a/limitranges", `{"metadata":{"name":"l"},"spec":{"limits":[{"type":"Container","default":{"cpu":"200m"},"defaultRequest":{"cpu":"100m"},"max":{"cpu":"1"}}]}}`), 201)
	f.want(f.as("admin", "POST", podsPath, podJSON("l")), 201, `"requests":{"cpu":"100m"}`, `"limits":{"cpu":"200m"}`)
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"big"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"2"}}}]}}`), 403, "maximum cpu usage per Container is 1, but limit is 2")

	// A namespace that goes lets nothing in, and goes when it is empty.
	f.want(f.as("admin", "POST", "/api/v1/namespaces", `{"metadata":{"name":"b"}}`), 201, `"phase":"Active"`)
	f.want(f.as("admin", "DELETE", "/api/v1/namespaces/b", ""), 200, "Terminating", "deletionTimestamp")
	f.want(f.as("admin", "POST", "/api/v1/namespaces/b/configmaps", `{"metadata":{"name":"c"}}`), 403, "because it is being terminated", `"reason":"NamespaceTerminating"`)
	f.want(f.as("admin", "PUT", "/api/v1/namespaces/b/finalize", `{"metadata":{"name":"b"},"spec":{"finalizers":[]}}`), 200)
	f.want(f.as("admin", "GET", "/api/v1/namespaces/b", ""), 404)
}

// TestQuota: of requests that come at the same time, no more get in than fit.
func TestQuota(t *testing.T) {
	f, _ := guarded(t)
	f.want(f.as("admin", "POST", "/api/v1/namespaces/a/resourcequotas", `{"metadata":{"name":"q"},"spec":{"hard":{"pods":"5","count/secrets":"1","requests.cpu":"1"}}}`), 201)
	var all sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i := range 20 {
		all.Go(func() {
			a := f.as("admin", "POST", podsPath, podJSON(fmt.Sprint("p", i)))
			mu.Lock()
			defer mu.Unlock()
			codes[a.code]++
		})
	}
	all.Wait()
	if codes[201] != 5 || codes[403] != 15 {
		t.Errorf("codes %v, want 5 of 201 and 15 of 403", codes)
	}
	if got := f.as("admin", "GET", "/api/v1/namespaces/a/resourcequotas/q", "").get("status.used.pods"); got != "5" {
		t.Errorf("used %s, want 5", got)
	}
	var one string
	for i := range 20 {
		if f.as("admin", "GET", fmt.Sprintf("%s/p%d", podsPath, i), "").code == 200 {
			one = fmt.Sprintf("%s/p%d", podsPath, i)
		}
	}
	f.want(f.as("admin", "DELETE", one, ""), 200)
	f.want(f.as("admin", "POST", podsPath, `{"metadata":{"name":"dear"},"spec":{"containers":[{"name":"c","image":"i","resources":{"requests":{"cpu":"1500m"}}}]}}`), 403,
		"exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=0, limited: requests.cpu=1")
	f.want(f.as("admin", "POST", podsPath, podJSON("again")), 201)
}

// TestStore: a component in the same process passes the same gates.
func TestStore(t *testing.T) {
	f, _ := guarded(t)
	ctx := t.Context()
	admin := f.server.Store(&authn.User{Name: "admin", Groups: []string{authn.GroupMasters}})
	bob := f.server.Store(&authn.User{Name: "bob"})
	pods, err := store.Lookup[*corev1.Pod](admin, store.KindName{Name: "Pod"})
	if err != nil {
		t.Fatal(err)
	}
	his, err := store.Lookup[*corev1.Pod](bob, store.KindName{Name: "Pod"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := his.Create(ctx, pod); !apierrors.IsForbidden(err) {
		t.Errorf("bob creates: %v, want forbidden", err)
	}
	p, err := pods.Create(ctx, pod)
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || p.Status.Phase != corev1.PodPending || len(p.ManagedFields) != 1 || p.ManagedFields[0].Manager != "admin" {
		t.Errorf("created %+v: want admission, defaults and an account of the fields", p)
	}
	if _, err := pods.Create(ctx, pod); !errors.Is(err, store.ErrAlreadyExists) || !apierrors.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	key := store.NewKey("a", "p")
	if _, err := pods.Patch(ctx, key, func(p *corev1.Pod) error { p.Spec.Hostname = "x"; return nil }); !errors.Is(err, store.ErrInvalid) || !apierrors.IsInvalid(err) {
		t.Errorf("an immutable field: %v, want invalid", err)
	}
	if p, err = pods.Patch(ctx, key, func(p *corev1.Pod) error {
		p.Labels = map[string]string{"a": "b"}
		p.Status.Phase = corev1.PodRunning
		return nil
	}); err != nil || p.Status.Phase != corev1.PodRunning || p.Labels["a"] != "b" {
		t.Errorf("object and status at once: %v %v", p, err)
	}
	var all sync.WaitGroup
	for i := range 20 { // each takes effect, whatever comes in between
		all.Go(func() {
			if _, err := pods.Patch(ctx, key, func(p *corev1.Pod) error { p.Labels[fmt.Sprint("l", i)] = "x"; return nil }); err != nil {
				t.Errorf("patch %d: %v", i, err)
			}
		})
		all.Go(func() {
			config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","annotations":{"a%d":"x"}}}`, i)
			f.want(f.do("PATCH", fmt.Sprintf("%s/p?fieldManager=m%d", podsPath, i), config, "Authorization: Bearer admin", applyPatch), 200)
		})
	}
	all.Wait()
	if p, err := pods.Get(ctx, key); err != nil || len(p.Labels) != 21 || len(p.Annotations) != 20 {
		t.Errorf("after patches at the same time: %v %v %v", p.Labels, p.Annotations, err)
	}
	mine := errors.New("mine")
	if _, err := pods.Patch(ctx, key, func(*corev1.Pod) error { return mine }); err != mine {
		t.Errorf("the patch's own error: %v", err)
	}
	if _, err := his.Get(ctx, key); !apierrors.IsForbidden(err) {
		t.Errorf("bob gets: %v", err)
	}
	for _, err := range his.List(ctx) {
		if !apierrors.IsForbidden(err) {
			t.Errorf("bob lists: %v", err)
		}
	}
	for _, err := range his.Watch(ctx) {
		if !apierrors.IsForbidden(err) {
			t.Errorf("bob watches: %v", err)
		}
	}
	// The right to the status alone.
	f.want(f.as("admin", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", `{"metadata":{"name":"status"},"rules":[{"apiGroups":[""],"resources":["pods/status"],"verbs":["update"]}]}`), 201)
	f.want(f.as("admin", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"name":"status"},"roleRef":{"kind":"ClusterRole","name":"status"},"subjects":[{"kind":"User","name":"bob"}]}`), 201)
	if _, err := his.Patch(ctx, key, func(p *corev1.Pod) error { p.Status.Message = "x"; return nil }); err != nil {
		t.Errorf("bob changes the status: %v", err)
	}
	if _, err := his.Patch(ctx, key, func(p *corev1.Pod) error { p.Status.Message = "y"; p.Labels = nil; return nil }); !apierrors.IsForbidden(err) {
		t.Errorf("bob changes the status and more: %v", err)
	}
	now := apiserver.WithDeleteOptions(ctx, *metav1.NewDeleteOptions(0))
	if _, err := pods.Delete(now, key); err != nil {
		t.Error(err)
	}
	if _, err := pods.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the delete: %v", err)
	}
	// A transaction passes the gates write by write, and is committed whole.
	_, err = admin.(store.Transactor).Txn(ctx, func(tx store.Tx) error {
		if _, err := pods.In(tx).Create(pod.DeepCopy()); err != nil {
			return err
		}
		bad := pod.DeepCopy()
		bad.Name, bad.Spec.Containers = "bad", nil
		_, err := pods.In(tx).Create(bad)
		return err
	})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a transaction with an invalid object: %v", err)
	}
	if _, err := pods.Get(ctx, key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the transaction that failed: %v", err)
	}
}

func TestTransaction(t *testing.T) {
	f, _ := guarded(t)
	const path = "/apis/slipway.dev/v1/transactions"
	create := func(name, spec string) string {
		return fmt.Sprintf(`{"op":"create","object":{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"namespace":"a","name":%q},"spec":%s}}`, name, spec)
	}
	post := func(token string, ops ...string) answer {
		return f.as(token, "POST", path, `{"apiVersion":"slipway.dev/v1","kind":"Transaction","spec":{"operations":[`+strings.Join(ops, ",")+`]}}`)
	}
	a := f.want(post("admin", create("x", `{"source":"s"}`), create("y", `{"source":"s"}`)), 201)
	if v := a.get("status.resourceVersion"); a.get("status.objects.0.metadata.resourceVersion") != v || a.get("status.objects.1.metadata.resourceVersion") != v {
		t.Errorf("not of one version: %s", a.body)
	}
	f.want(post("admin", create("z", `{"source":"s"}`), create("x", `{"source":"s"}`)), 409, `spec.operations[1]: backups.example.com \"x\" already exists`)
	f.want(f.as("admin", "GET", backupsPath+"/z", ""), 404)
	f.want(post("admin", create("z", `{"kep":1}`)), 400, "spec.operations[0]", "unknown field")
	f.want(post("admin", `{"op":"merge","object":{}}`), 400, "want create, update or delete")
	f.want(post("admin"), 400, "want 1 to 1000")
	f.want(post("bob", create("z", `{}`)), 403)
	f.want(post("admin", `{"op":"delete","object":{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"namespace":"a","name":"x","resourceVersion":"1"}}}`), 409)
	f.want(post("admin", `{"op":"delete","object":{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"namespace":"a","name":"x"}}}`,
		`{"op":"update","object":{"apiVersion":"example.com/v1","kind":"Backup","metadata":{"namespace":"a","name":"y"},"spec":{"source":"s","keep":9}}}`), 201, `"keep":9`)
	f.want(f.as("admin", "GET", backupsPath+"/x", ""), 404)
	f.want(f.as("admin", "GET", "/apis/slipway.dev/v1", ""), 200, `"kind":"Transaction"`)
}

// TestCovers: see authz.Uncovered.
func TestCovers(t *testing.T) {
	rule := func(verbs, resources string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: strings.Fields(verbs), APIGroups: []string{""}, Resources: strings.Fields(resources)}
	}
	named := rule("get", "pods")
	named.ResourceNames = []string{"x"}
	urls := func(paths ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: paths}
	}
	for _, c := range []struct {
		held, wanted rbacv1.PolicyRule
		want         int
	}{
		{rule("get list", "pods"), rule("get", "pods"), 0},
		{rule("get", "pods"), rule("get list", "pods services"), 3},
		{rule("*", "*"), rule("get", "pods/log"), 0},
		{rule("get", "pods"), rule("get", "pods/log"), 1},
		{rule("get", "*/log"), rule("get", "pods/log"), 0},
		{rule("get", "pods"), rule("*", "pods"), 1},
		{rule("get", "pods"), rule("get", "*"), 1},
		{rule("get", "pods"), named, 0},
		{named, rule("get", "pods"), 1},
		{urls("/a/*"), urls("/a/b", "/c"), 1},
		{urls("/a/*"), urls("/a/*"), 0},
		{urls("/a"), urls("/a/*"), 1},
	} {
		if got := authz.Uncovered([]rbacv1.PolicyRule{c.held}, []rbacv1.PolicyRule{c.wanted}); len(got) != c.want {
			t.Errorf("%v covers %v but for %v, want %d", c.held, c.wanted, got, c.want)
		}
	}
}

// TestPanic: a panic is one request's, and not the server's.
func TestPanic(t *testing.T) {
	f := newFixture(t, apiserver.Options{Handlers: map[string]http.Handler{"/boom": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })}})
	f.want(f.do("GET", "/boom", ""), 500, "this request caused apiserver to panic")
	f.want(f.do("GET", "/livez", ""), 200, "ok")
}

// TestFlight: requests beyond the limits wait their turn, or are refused.
func TestFlight(t *testing.T) {
	release := make(chan struct{})
	var audited sync.Map
	f := newFixture(t, apiserver.Options{
		Limits: apiserver.Limits{InFlight: 1, Queue: 1},
		Audit:  func(e apiserver.AuditEvent) { audited.Store(e.URL, e) },
		Handlers: map[string]http.Handler{"/slow": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-release
			fmt.Fprint(w, "done")
		})},
	})
	codes := make(chan int, 3)
	for i := range 3 {
		go func() { codes <- f.do("GET", fmt.Sprintf("/slow?%d", i), "").code }()
	}
	if code := <-codes; code != http.StatusTooManyRequests {
		t.Errorf("the one too many: %d, want 429", code)
	}
	close(release)
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one that had its turn: %d, want 200", code)
		}
	}
	n := 0
	audited.Range(func(_, v any) bool {
		if e := v.(apiserver.AuditEvent); e.User != nil && e.Code != 0 && e.Took > 0 {
			n++
		}
		return true
	})
	if n != 3 {
		t.Errorf("%d requests in the audit log, want 3", n)
	}
}
