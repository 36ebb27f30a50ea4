// Package ipam chooses subnets and hands out their addresses. It is pure: what is in use comes as arguments.
package ipam
