// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"flag"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/slipway-dev/slipway/netproxy"
	"github.com/slipway-dev/slipway/netproxy/internal/lab/labtest"
	"github.com/slipway-dev/slipway/netproxy/iptables"
	"github.com/slipway-dev/slipway/netproxy/trace"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestFeatures follows packets through the rules of each feature.
func TestFeatures(t *testing.T) {
	labtest.Features(t, func(c netproxy.Config, changes []netproxy.Change) (*trace.RuleSet, error) {
		rs, err := iptables.New(c)
		if err == nil {
			err = rs.Update(changes)
		}
		if err != nil {
			return nil, err
		}
		return trace.Parse(rs.Save())
	})
}

func TestGolden(t *testing.T) {
	for _, w := range labtest.Worlds() {
		s, slice := w.Web()
		s.Affinity = time.Hour
		s.ExternalPolicy = netproxy.Local
		s.SourceRanges = []netip.Prefix{w.Friends}
		s.HealthCheckNodePort = 31000
		rs, err := iptables.New(netproxy.Config{Family: w.Family, PodCIDR: w.Pods})
		if err == nil {
			err = rs.Update(labtest.Changes(t, s, slice))
		}
		if err != nil {
			t.Fatal(err)
		}
		got := rs.Text()
		file := "testdata/" + w.Family.String() + ".rules"
		if *update {
			os.MkdirAll("testdata", 0o755)
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the text has changed; see it with -update and git diff", file)
		}
	}
}
