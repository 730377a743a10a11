// SPDX-License-Identifier: Apache-2.0

package main

func Example() {
	main()
	// Output:
	// served ferry
	// served argo
	// wreck failed after 0 attempts before; put aside: false
	// wreck failed after 1 attempts before; put aside: false
	// wreck failed after 2 attempts before; put aside: true
	// served vasa
	// wreck: parked after 3 attempts: aground
	// shut down: true
}
