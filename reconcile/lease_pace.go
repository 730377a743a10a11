// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"math/rand/v2"
	"time"
)

// pace spreads what replicas do periodically. It depends on the identity only,
// so that a simulation can be repeated.
type pace struct{ random *rand.Rand }

func newPace(identity string) pace {
	h := hash64(identity)
	return pace{rand.New(rand.NewPCG(h, h))}
}

// next returns d, made longer by up to a fifth.
func (p pace) next(d time.Duration) time.Duration {
	return d + time.Duration(p.random.Float64()*float64(d)/5)
}
