// SPDX-License-Identifier: Apache-2.0

package lab

const sysSetns = 308 // not in package syscall, which is frozen
