// SPDX-License-Identifier: Apache-2.0

package main

func Example() {
	main()
	// Output:
	// ADDED merchant-1
	// ADDED merchant-2
	// ADDED merchant-3
	// DELETED merchant-2
	// ADDED merchant-2
	// DELETED merchant-2
	// DELETED merchant-3
}
