// SPDX-License-Identifier: Apache-2.0

package trace_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/slipway-dev/slipway/netproxy/trace"
)

// TestConcurrent traces from several goroutines, and expects that results stay as
// they were when the memory of their walks is used again.
func TestConcurrent(t *testing.T) {
	ipt, err := trace.Parse(kubeProxy)
	if err != nil {
		t.Fatal(err)
	}
	nft, err := trace.ParseNFT(small)
	if err != nil {
		t.Fatal(err)
	}
	describe := func(r *trace.Result) string {
		text := r.String()
		for _, o := range r.Outcomes {
			text += fmt.Sprint(o.Steps(), o.Remembered)
		}
		return text
	}
	packets := []trace.Packet{packetTo("10.96.0.10:80"), packetTo("10.96.0.11:80"), packetTo("10.96.0.1:80"), packetTo("192.0.2.1:443")}
	var wg sync.WaitGroup
	for _, rules := range []*trace.RuleSet{ipt, nft} {
		var want []string
		for _, p := range packets {
			r := rules.Trace(p)
			want = append(want, describe(&r))
		}
		for range 4 {
			wg.Go(func() {
				var results []trace.Result
				for i := range 200 {
					results = append(results, rules.Trace(packets[i%len(packets)]))
				}
				for i, r := range results {
					if got := describe(&r); got != want[i%len(packets)] {
						t.Errorf("%s\nwant\n%s", got, want[i%len(packets)])
						return
					}
				}
			})
		}
	}
	wg.Wait()
}
