# Makes the project's commands available in this shell:  . scripts/env.sh
# For bash and zsh; needs `make setup` to have run.

_vla_root="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
if [ ! -f "$_vla_root/.venv/bin/activate" ]; then
  echo "scripts/env.sh: there is no $_vla_root/.venv; run 'make setup' first." >&2
  unset _vla_root
  return 1
fi

. "$_vla_root/.venv/bin/activate"
export AMENT_PREFIX_PATH="$VIRTUAL_ENV" CMAKE_PREFIX_PATH="$VIRTUAL_ENV"
# Set here, or each start of Python would start it a second time to set this itself.
LD_LIBRARY_PATH="$VIRTUAL_ENV/lib"
for _vla_libs in "$VIRTUAL_ENV"/lib/python3.*/site-packages/ros_*.libs; do
  LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$_vla_libs"
done
export LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
export ROS_DISTRO=jazzy ROS_VERSION=2 RMW_IMPLEMENTATION=rmw_fastrtps_cpp
# Paths of another ROS installation or of an earlier build would shadow these.
unset PYTHONPATH COLCON_PREFIX_PATH

# What colcon writes reads variables that are not set.
case $- in *u*) _vla_nounset=1; set +u ;; esac
if [ -n "${ZSH_VERSION:-}" ] && [ -f "$_vla_root/install/setup.zsh" ]; then
  . "$_vla_root/install/setup.zsh"
elif [ -n "${BASH_VERSION:-}" ] && [ -f "$_vla_root/install/setup.bash" ]; then
  . "$_vla_root/install/setup.bash"
fi
if [ -n "${_vla_nounset:-}" ]; then set -u; fi
unset _vla_root _vla_libs _vla_nounset
