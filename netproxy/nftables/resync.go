// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
)

func (b *Backend) Resync(ctx context.Context) (int, error) {
	return 0, b.Sync(ctx, nil)
}
