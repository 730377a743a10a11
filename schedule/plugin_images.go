// SPDX-License-Identifier: Apache-2.0

package schedule

import "strings"

// ImageLocality prefers nodes that have the pod's images already: by their size,
// and less so the fewer nodes have them, lest all pods crowd onto one node.
type ImageLocality struct{ nodeLocal }

// Name returns "ImageLocality".
func (ImageLocality) Name() string { return "ImageLocality" }

// Sizes between which the score goes from 0 to 100; the upper one is per image
// of the pod.
const (
	imageFloor   int64 = 23 << 20
	imageCeiling int64 = 1000 << 20
)

// PreScore leaves the score out while no node has any of the images.
func (ImageLocality) PreScore(c *Cycle) *Status {
	for _, image := range c.class.images {
		if image.nodes > 0 {
			return nil
		}
	}
	if c.full {
		return nil
	}
	return statusSkip
}

// Score rates a node by the images that it has.
func (ImageLocality) Score(c *Cycle, n NodeInfo) (int64, *Status) {
	images := c.class.images
	if len(images) == 0 {
		return 0, nil
	}
	var sum int64
	for _, image := range images {
		if int(n.row) < len(image.size) {
			spread := float64(image.nodes) / float64(c.table.liveRows)
			sum += int64(float64(image.size[n.row]) * spread)
		}
	}
	ceiling := imageCeiling * int64(len(images))
	sum = min(max(sum, imageFloor), ceiling)
	return MaxScore * (sum - imageFloor) / (ceiling - imageFloor), nil
}

// normalImage gives an image without a tag the tag that is meant.
func normalImage(name string) string {
	if strings.LastIndexByte(name, ':') <= strings.LastIndexByte(name, '/') {
		return name + ":latest"
	}
	return name
}
