// SPDX-License-Identifier: Apache-2.0

package watch

import "slices"

// posting is the set of objects that have one value in an index. It holds their
// hashes, not the objects: an update that leaves an object's values alone leaves
// its postings alone, which is most of what an update would cost otherwise, and
// there is nothing in it for the garbage collector to follow.
//
// Two objects whose hashes are the same, which no program will ever see, are in
// it twice; who reads finds both, twice, and must drop what is double.
type posting struct {
	value string
	epoch uint64
	few   []uint64       // up to fewHashes of them
	many  *table[uint64] // more
}

const fewHashes = 128

// own returns a copy of the posting, which may be nil, for the epoch.
func (p *posting) own(value string, epoch uint64) *posting {
	own := &posting{value: value, epoch: epoch}
	switch {
	case p == nil:
	case p.many != nil:
		many := *p.many
		own.many = &many
	default:
		own.few = make([]uint64, len(p.few), room(len(p.few)+1))
		copy(own.few, p.few)
	}
	return own
}

func (p *posting) same(other *posting) bool { return p.value == other.value }

func (p *posting) len() int {
	switch {
	case p == nil:
		return 0
	case p.many != nil:
		return p.many.len
	}
	return len(p.few)
}

func (p *posting) add(hash uint64) {
	switch {
	case p.many != nil:
		p.many.insert(p.epoch, hash, hash, itself)
	case len(p.few) < fewHashes:
		p.few = grow(p.few)
		p.few = append(p.few, hash)
	default:
		p.many = &table[uint64]{}
		for _, h := range p.few {
			p.many.insert(p.epoch, h, h, itself)
		}
		p.few = nil
		p.many.insert(p.epoch, hash, hash, itself)
	}
}

func (p *posting) remove(hash uint64) {
	if p.many != nil {
		p.many.remove(p.epoch, hash, func(h uint64) bool { return h == hash }, itself)
		return
	}
	i, last := slices.Index(p.few, hash), len(p.few)-1
	p.few[i] = p.few[last]
	p.few = p.few[:last]
}

func (p *posting) all(yield func(uint64) bool) {
	if p.many != nil {
		p.many.all(yield)
		return
	}
	for _, h := range p.few {
		if !yield(h) {
			return
		}
	}
}

func itself(hash uint64) uint64 { return hash }
