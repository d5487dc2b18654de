# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo`: a stock kernel that switches itself to fit its workload, and what that gains."""
