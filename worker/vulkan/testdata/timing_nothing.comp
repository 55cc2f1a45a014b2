// A dispatch that does nothing: what starting and ending one costs (vulkan_facts).
#version 460
layout(local_size_x_id = 0) in;
void main() {}
