// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/slipway-dev/slipway/store"
)

func listPromises() []promise {
	return []promise{
		{name: "OrderedByKey", test: listOrder},
		{name: "Namespace", test: listNamespace},
		{name: "Labels", test: listLabels},
		{name: "Fields", test: listFields},
		{name: "IndexFollowsChanges", test: listIndexChanges},
		{name: "MultiIndex", test: listMultiIndex},
		{name: "StopsWhenTold", test: listStops},
		{name: "OneRevision", test: listOneRevision, clock: true},
		{name: "Pages", test: listPages},
		{name: "PagesAreOfOneRevision", test: listPagesOneRevision},
		{name: "PagesUnderWrites", test: listPagesUnderWrites, clock: true},
		{name: "TokenIsChecked", test: listToken},
		{name: "TokenTooOld", test: listTokenTooOld},
		{name: "RevisionToWatchFrom", test: listThenWatch},
		{name: "RevisionToWatchFromWhenEmpty", test: listEmptyThenWatch},
	}
}

func listOrder(x *trial) {
	// Bytes below '-' and '/' and above 'z', and prefixes of one another.
	for _, k := range []string{"b/a", "a/b", "a-b/x", "a/a", "ab/a", "a/ab", "a/a.b", "a/a-b", "ä/x", "a/é", "A/z", "a/B"} {
		ns, name, _ := strings.Cut(k, "/")
		x.create(x.widgets, object(ns, name, node("n")))
	}
	const want = "A/z a/B a/a a/a-b a/a.b a/ab a/b a/é a-b/x ab/a b/a ä/x"
	for _, opts := range []store.ListOptions{{}, {Fields: onNode("n")}, {Labels: x.selector("!no")}} {
		if got := x.names(x.widgets, opts); got != want {
			x.Errorf("list with %+v:\ngot  %s\nwant %s", opts, got, want)
		}
	}
}

func listNamespace(x *trial) {
	for _, ns := range []string{"a", "a-b", "ab", "b"} {
		x.create(x.widgets, object(ns, "x"))
		x.create(x.widgets, object(ns, "y"))
	}
	for opts, want := range map[string]string{"a": "a/x a/y", "ab": "ab/x ab/y", "b": "b/x b/y", "c": ""} {
		if got := x.names(x.widgets, store.ListOptions{Namespace: opts}); got != want {
			x.Errorf("list of namespace %s: %q, want %q", opts, got, want)
		}
	}
}

func listLabels(x *trial) {
	x.create(x.widgets, object("a", "p", label("app", "web"), label("env", "prod")))
	x.create(x.widgets, object("a", "q", label("app", "web"), label("env", "qa")))
	x.create(x.widgets, object("a", "r", label("app", "db")))
	x.create(x.widgets, object("b", "s"))
	for text, want := range map[string]string{
		"":                          "a/p a/q a/r b/s",
		"app=web":                   "a/p a/q",
		"app!=web":                  "a/r b/s",
		"env in (prod, qa)":         "a/p a/q",
		"env notin (prod)":          "a/q a/r b/s",
		"env":                       "a/p a/q",
		"!env":                      "a/r b/s",
		"app=web,env=qa":            "a/q",
		"app=web,env,env notin (x)": "a/p a/q",
		"app=none":                  "",
	} {
		if got := x.names(x.widgets, store.ListOptions{Labels: x.selector(text)}); got != want {
			x.Errorf("list of %q: %q, want %q", text, got, want)
		}
	}
	if got := x.names(x.widgets, store.ListOptions{Labels: x.selector("app=web"), Namespace: "b"}); got != "" {
		x.Errorf("list of app=web in b: %q, want none", got)
	}
}

func listFields(x *trial) {
	x.create(x.widgets, object("a", "p", node("n1"), label("app", "web")))
	x.create(x.widgets, object("a", "q", node("n2")))
	x.create(x.widgets, object("b", "p", node("n1")))
	x.create(x.widgets, object("b", "r"))
	for text, want := range map[string]string{
		"spec.node=n1":                         "a/p b/p",
		"spec.node!=n1":                        "a/q b/r",
		"spec.node=":                           "b/r",
		"metadata.name=p":                      "a/p b/p",
		"metadata.name!=p":                     "a/q b/r",
		"metadata.namespace=b":                 "b/p b/r",
		"metadata.namespace!=b":                "a/p a/q",
		"metadata.name=p,metadata.namespace=b": "b/p",
		"spec.node=n1,metadata.name!=p":        "",
		"spec.node=n1,spec.node=n2":            "",
		"spec.node=n1,metadata.namespace=a":    "a/p",
	} {
		fields, err := store.ParseFieldSelector(text)
		x.ok(err)
		if got := x.names(x.widgets, store.ListOptions{Fields: fields}); got != want {
			x.Errorf("list of %q: %q, want %q", text, got, want)
		}
	}
	both := store.ListOptions{Fields: onNode("n1"), Labels: x.selector("app=web"), Namespace: "a"}
	if got := x.names(x.widgets, both); got != "a/p" {
		x.Errorf("list by namespace, labels and fields: %q, want a/p", got)
	}
}

func listIndexChanges(x *trial) {
	k := key("a", "x")
	x.create(x.widgets, object("a", "x", node("n1")))
	on := func(n string) string { return x.names(x.widgets, store.ListOptions{Fields: onNode(n)}) }
	expect := func(n1, n2 string) {
		x.Helper()
		if got1, got2 := on("n1"), on("n2"); got1 != n1 || got2 != n2 {
			x.Fatalf("on n1 %q and on n2 %q, want %q and %q", got1, got2, n1, n2)
		}
	}
	expect("a/x", "")
	x.patch(x.widgets, k, node("n2"))
	expect("", "a/x")
	x.patch(x.widgets, k, size(3))
	expect("", "a/x")
	for w, err := range x.widgets.List(x.ctx, store.ListOptions{Fields: onNode("n2")}) {
		x.ok(err)
		x.same("the indexed version", w, x.get(x.widgets, k))
	}
	x.delete(x.widgets, k)
	expect("", "")
}

func listMultiIndex(x *trial) {
	k := key("a", "x")
	x.create(x.widgets, object("a", "x", tags("t", "u", "t", "")))
	x.create(x.widgets, object("a", "y", tags("u", "t\x00", "t\x00\x00v")))
	x.create(x.widgets, object("a", "z"))
	expect := func(tag, want string) {
		x.Helper()
		if got := x.names(x.widgets, store.ListOptions{Fields: tagged(tag)}); got != want {
			x.Errorf("tagged %q: %q, want %q", tag, got, want)
		}
	}
	expect("t", "a/x")
	expect("u", "a/x a/y")
	expect("", "a/x")
	expect("t\x00", "a/y")
	expect("t\x00\x00v", "a/y")
	expect("v", "")
	not := store.ListOptions{Fields: store.FieldSelector{{Name: indexTag, Value: "t", Not: true}}}
	if got := x.names(x.widgets, not); got != "a/y a/z" {
		x.Errorf("not tagged t: %q, want a/y a/z", got)
	}
	x.patch(x.widgets, k, tags("v", "u"))
	expect("t", "")
	expect("u", "a/x a/y")
	expect("v", "a/x")
	x.patch(x.widgets, k, tags())
	expect("u", "a/y")
	expect("v", "")
}

func listStops(x *trial) {
	x.fill(x.widgets, "a", 10)
	n := 0
	for _, err := range x.widgets.List(x.ctx) {
		x.ok(err)
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		x.Errorf("%d objects, want to stop at 3", n)
	}
}

// fill creates objects x000, x001, … in the namespace.
func (x *trial) fill(h handle, namespace string, n int) {
	x.Helper()
	for i := range n {
		x.create(h, object(namespace, numbered("x", i), node("n"+fmt.Sprint(i%3))))
	}
}

// sweep makes a writer that sets one number in one object after the other, then
// the next number, until it is stopped: a list of one revision is n, n, …, n-1, n-1.
func (x *trial) sweep(objects int) (stop func()) {
	for i := range objects {
		x.create(x.widgets, object("a", numbered("x", i), node("n")))
	}
	writer := x.workers()
	var done atomic.Bool
	writer.Go(func() {
		for n := 1; !done.Load() && x.ctx.Err() == nil; n++ {
			for i := range objects {
				if _, err := x.widgets.Patch(x.ctx, key("a", numbered("x", i)), apply(size(n))); err != nil {
					x.Errorf("patch: %v", err)
					return
				}
			}
		}
	})
	return func() {
		done.Store(true)
		writer.Wait()
	}
}

func listOneRevision(x *trial) {
	const objects = 20
	stop := x.sweep(objects)
	defer stop()
	for i := range scaled(200) {
		opts := store.ListOptions{}
		if i%2 == 1 {
			opts.Fields = onNode("n")
		}
		p := x.page(x.widgets, opts)
		checkOneRevision(x, p.Items, p.Revision, objects)
		letOthers()
	}
}

func checkOneRevision(x *trial, items []*widget, revision uint64, want int) {
	x.Helper()
	if len(items) != want {
		x.Fatalf("%d objects, want %d", len(items), want)
	}
	drops := 0
	for i, w := range items {
		if rev := x.revision(w); rev > revision {
			x.Fatalf("%s of revision %d in a list of revision %d", w.Name, rev, revision)
		}
		if i == 0 {
			continue
		}
		switch items[i-1].Spec.Size - w.Spec.Size {
		case 0:
		case 1:
			drops++
		default:
			drops = want
		}
	}
	if drops > 1 {
		var sizes []int
		for _, w := range items {
			sizes = append(sizes, w.Spec.Size)
		}
		x.Fatalf("a list of several revisions: the writer goes from one object to the next, and the sizes are %v", sizes)
	}
}

func listPages(x *trial) {
	x.fill(x.widgets, "a", 10)
	x.fill(x.widgets, "b", 5)
	for _, c := range []struct {
		opts store.ListOptions
		want int
	}{
		{store.ListOptions{Limit: 1}, 15},
		{store.ListOptions{Limit: 4}, 15},
		{store.ListOptions{Limit: 5}, 15},
		{store.ListOptions{Limit: 15}, 15},
		{store.ListOptions{Limit: 100}, 15},
		{store.ListOptions{Limit: 3, Namespace: "a"}, 10},
		{store.ListOptions{Limit: 2, Fields: onNode("n1")}, 5},
		{store.ListOptions{Limit: 2, Labels: x.selector("!no"), Namespace: "b"}, 5},
	} {
		all := x.names(x.widgets, store.ListOptions{Namespace: c.opts.Namespace, Fields: c.opts.Fields, Labels: c.opts.Labels})
		var got []string
		for opts := c.opts; ; {
			p := x.page(x.widgets, opts)
			for _, w := range p.Items {
				got = append(got, store.KeyOf(w).String())
			}
			if len(p.Items) > c.opts.Limit {
				x.Fatalf("a page of %d with limit %d", len(p.Items), c.opts.Limit)
			}
			if left := c.want - len(got); p.Remaining != left && p.Remaining != -1 {
				x.Errorf("%d objects remain, says the page; it is %d", p.Remaining, left)
			}
			if opts.Continue = p.Continue; opts.Continue == "" {
				break
			}
			if len(got) > c.want {
				x.Fatalf("paging with %+v does not end", c.opts)
			}
		}
		if text := strings.Join(got, " "); text != all {
			x.Errorf("paging with %+v: %s, want %s", c.opts, text, all)
		}
	}
}

func listPagesOneRevision(x *trial) {
	x.fill(x.widgets, "a", 6)
	opts := store.ListOptions{Limit: 2}
	first := x.page(x.widgets, opts)
	x.delete(x.widgets, key("a", "x002"))
	x.create(x.widgets, object("a", "x0025"))
	x.patch(x.widgets, key("a", "x003"), size(9))
	opts.Continue = first.Continue
	second := x.page(x.widgets, opts)
	opts.Continue, opts.Limit = second.Continue, 0
	third := x.page(x.widgets, opts)
	var got []string
	for _, p := range []store.Page[*widget]{first, second, third} {
		if p.Revision != first.Revision {
			x.Errorf("a page of revision %d after one of %d", p.Revision, first.Revision)
		}
		for _, w := range p.Items {
			got = append(got, fmt.Sprintf("%s:%d", w.Name, w.Spec.Size))
		}
	}
	if text := strings.Join(got, " "); text != "x000:0 x001:0 x002:0 x003:0 x004:0 x005:0" {
		x.Errorf("the pages are not of the first one's revision: %s", text)
	}
	if third.Continue != "" {
		x.Error("the last page has a token")
	}
}

func listPagesUnderWrites(x *trial) {
	const objects = 20
	stop := x.sweep(objects)
	defer stop()
	for range scaled(100) {
		opts := store.ListOptions{Limit: 7}
		var items []*widget
		for {
			p := x.page(x.widgets, opts)
			items = append(items, p.Items...)
			letOthers()
			if opts.Continue = p.Continue; opts.Continue == "" {
				checkOneRevision(x, items, p.Revision, objects)
				break
			}
		}
	}
}

func listToken(x *trial) {
	x.fill(x.widgets, "a", 6)
	x.fill(x.gizmos, "a", 6)
	token := x.page(x.widgets, store.ListOptions{Limit: 2}).Continue
	refused := func(what string, h handle, opts store.ListOptions) {
		x.Helper()
		_, err := h.Page(x.ctx, opts)
		x.fails(what, err, store.ErrInvalid)
	}
	for i := range token {
		c := byte('A')
		if token[i] == c {
			c = 'B'
		}
		changed := token[:i] + string(c) + token[i+1:]
		refused(fmt.Sprintf("token with byte %d changed", i), x.widgets, store.ListOptions{Limit: 2, Continue: changed})
	}
	for _, text := range []string{"x", ".", token[1:], token[:len(token)-1], token + "A", token + token} {
		refused("token "+text, x.widgets, store.ListOptions{Limit: 2, Continue: text})
	}
	refused("token of another kind", x.gizmos, store.ListOptions{Limit: 2, Continue: token})
	refused("token with another namespace", x.widgets, store.ListOptions{Limit: 2, Continue: token, Namespace: "a"})
	refused("token with other labels", x.widgets, store.ListOptions{Limit: 2, Continue: token, Labels: x.selector("app")})
	refused("token with other fields", x.widgets, store.ListOptions{Limit: 2, Continue: token, Fields: onNode("n1")})
	if got := x.page(x.widgets, store.ListOptions{Limit: 2, Continue: token}).Items; len(got) != 2 || got[0].Name != "x002" {
		x.Errorf("the token as it was: %d objects", len(got))
	}
}

func listTokenTooOld(x *trial) {
	c := x.compactor()
	x.fill(x.widgets, "a", 6)
	token := x.page(x.widgets, store.ListOptions{Limit: 2}).Continue
	x.patch(x.widgets, key("a", "x000"), size(1))
	x.ok(c.Compact(x.ctx, x.latest()))
	_, err := x.widgets.Page(x.ctx, store.ListOptions{Limit: 2, Continue: token})
	x.fails("token of a revision that was compacted", err, store.ErrTooOld)
}

func listThenWatch(x *trial) {
	x.fill(x.widgets, "a", 3)
	p := x.page(x.widgets, store.ListOptions{})
	x.patch(x.widgets, key("a", "x001"), size(1))
	x.create(x.widgets, object("a", "y"))
	x.watch(x.widgets, store.WatchOptions{From: p.Revision}).want("MODIFIED a/x001.", "ADDED a/y.")
}

// listEmptyThenWatch: a store that holds nothing yet has a revision, too, that is
// not the 0 which asks a watch for the present.
func listEmptyThenWatch(x *trial) {
	p := x.page(x.widgets, store.ListOptions{})
	if p.Revision == 0 {
		x.Error("the list is of revision 0")
	}
	x.create(x.widgets, object("a", "x"))
	x.watch(x.widgets, store.WatchOptions{From: p.Revision}).want("ADDED a/x.")
}
