// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"cmp"
	"maps"
)

// Over returns r with the fields that r leaves at zero taken from old: the
// limits in force after an update. Both may be nil.
func (r *Resources) Over(old *Resources) Resources {
	if old == nil {
		old = &Resources{}
	}
	if r == nil {
		return *old
	}
	n := Resources{
		CPUShares: cmp.Or(r.CPUShares, old.CPUShares), CPUQuota: cmp.Or(r.CPUQuota, old.CPUQuota),
		CPUPeriod: cmp.Or(r.CPUPeriod, old.CPUPeriod), MemoryLimit: cmp.Or(r.MemoryLimit, old.MemoryLimit),
		PidsLimit: cmp.Or(r.PidsLimit, old.PidsLimit), OOMScoreAdj: cmp.Or(r.OOMScoreAdj, old.OOMScoreAdj),
		CpusetCPUs: cmp.Or(r.CpusetCPUs, old.CpusetCPUs), CpusetMems: cmp.Or(r.CpusetMems, old.CpusetMems),
	}
	if len(old.Unified)+len(r.Unified) > 0 {
		n.Unified = map[string]string{}
		maps.Copy(n.Unified, old.Unified)
		maps.Copy(n.Unified, r.Unified)
	}
	return n
}
