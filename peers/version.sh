# Sourced. linked VERSION: the linker flags by which the programs of Kubernetes say that version, as those of a release do
# (component-base/version).
linked() {
  local minor=${1#v1.} package
  printf '%s' "-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf ' -X %s' "$package.gitVersion=$1" "$package.gitMajor=1" "$package.gitMinor=${minor%%.*}" "$package.gitTreeState=clean"
  done
}
