// SPDX-License-Identifier: Apache-2.0

package main

func Example() {
	main()
	// Output:
	// first leads
	// first pilots argo
	// first pilots vasa
	// first no longer leads
	// second leads
	// second pilots bounty
	// second no longer leads
}
