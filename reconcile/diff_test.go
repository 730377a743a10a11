// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/reconcile"
	"github.com/slipway-dev/slipway/store"
)

func TestDiff(t *testing.T) {
	type loose struct{ Object map[string]any }
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("flag-", i)] = strings.Repeat("é", 100)
	}
	for name, test := range map[string]struct {
		got, want string
	}{
		"same":       {reconcile.Diff(hullWith(hullSpec{Length: 1}), hullWith(hullSpec{Length: 1})), ""},
		"nil":        {reconcile.Diff[*hull](nil, nil), ""},
		"created":    {reconcile.Diff(nil, &mast{Name: "main"}), `: none -> {"name":"main"}`},
		"scalar":     {reconcile.Diff(hullWith(hullSpec{Length: 2}), hullWith(hullSpec{Length: 3})), "spec.length: 2 -> 3"},
		"pointer":    {reconcile.Diff(hullWith(hullSpec{}), hullWith(hullSpec{Crew: new(0)})), "spec.crew: none -> 0"},
		"nil, empty": {reconcile.Diff(hullWith(hullSpec{Ropes: []string{}, Seal: []byte{}}), hullWith(hullSpec{Flags: map[string]string{}})), ""},
		"the store's": {reconcile.Diff(
			&hull{Meta: store.Meta{ResourceVersion: "1", Generation: 1}}, &hull{Meta: store.Meta{ResourceVersion: "2", Generation: 2}}), ""},
		"time": {reconcile.Diff(&hull{}, &hull{Meta: store.Meta{CreationTimestamp: store.Time{Time: at}}}),
			`metadata.creationTimestamp: null -> "2026-01-02T03:04:05Z"`},
		"same instant": {reconcile.Diff(at, at.In(time.FixedZone("x", 3600))), ""},
		"bytes":        {reconcile.Diff(hullWith(hullSpec{Seal: []byte("secret")}), hullWith(hullSpec{Seal: []byte("other")})), "spec.seal: 6 bytes -> 5 bytes"},
		"dynamic":      {reconcile.Diff[any](1, "x"), `: 1 -> "x"`},
		"loose": {reconcile.Diff(loose{map[string]any{"spec": map[string]any{"a": 1, "b": []any{"x"}}}}, loose{map[string]any{"spec": map[string]any{"b": []any{"y", nil}}}}),
			`spec.a: 1 -> none, spec.b[0]: "x" -> "y", spec.b[1]: none -> none`},
	} {
		if test.got != test.want {
			t.Errorf("%s: %q, want %q", name, test.got, test.want)
		}
	}
	long := reconcile.Diff(hullWith(hullSpec{}), hullWith(hullSpec{Flags: many}))
	if len(long) > 2048 || !strings.HasSuffix(long, ", and 40 more") || !strings.Contains(long, "é…") {
		t.Errorf("%d bytes: %s", len(long), long)
	}
}
